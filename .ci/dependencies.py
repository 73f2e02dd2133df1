"""What the service is made of, and what is known against it: build/sbom.cdx.json (CycloneDX) and known vulnerabilities.

Exit code 1 if a pinned package has one. Advisories come over the network: without them it says so, and how many
packages were not looked up.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINNED = "requirements-node.txt"  # what serves, and what the node needs on top


def bill_of_materials(out: Path) -> int:
    """Write the CycloneDX document of the pinned packages; returns how many there are."""
    out.parent.mkdir(exist_ok=True)
    command = ["cyclonedx_py", "requirements", "--pyproject", "pyproject.toml", "--output-reproducible", "-o", str(out)]
    subprocess.run([sys.executable, "-m", *command, PINNED], cwd=ROOT, check=True)
    return len(json.loads(out.read_text())["components"])


def vulnerabilities() -> tuple[list[str], int, int]:
    """A line a vulnerability; the number of packages that were looked up, and of those that could not be."""
    command = [sys.executable, "-m", "pip_audit", "-r", PINNED, "--disable-pip", "--require-hashes", "-f", "json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if answer.returncode not in (0, 1) or not answer.stdout:
        print(*answer.stderr.splitlines()[-1:])
        return [], 0, sum(line[:1].isalnum() for line in (ROOT / PINNED).read_text().splitlines())
    found = json.loads(answer.stdout)["dependencies"]
    lines = [
        f"{one['name']} {one['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'none yet'}"
        for one in found
        for known in one.get("vulns", [])
    ]
    skipped = sum("skip_reason" in one for one in found)
    return lines, len(found) - skipped, skipped


def main() -> None:
    """Do both."""
    out = ROOT / "build" / "sbom.cdx.json"
    print(f"{out.relative_to(ROOT)}: {bill_of_materials(out)} packages")
    lines, looked_up, skipped = vulnerabilities()
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{len(lines)} known vulnerabilities in {looked_up} packages; {skipped} could not be looked up")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
