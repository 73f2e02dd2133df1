"""nginx in front of a server, with the files and the defaults of compose.yaml."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from tests.support.server import ROOT, Endpoint, free_port, until

TEMPLATES = ROOT / "deploy" / "nginx"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")  # Debian's path of a user lacks it
DEFAULT = re.compile(r"\$\{\w+:-(.*?)\}")  # Compose's ${NAME:-default}
SERVERS = re.compile(r"( *server \$\{PROXY_APP\} max_fails=0;\n)+")  # the upstream's lines
VARIABLE = re.compile(r"\$\{(\w+)\}")


def compose() -> dict:
    """compose.yaml, with the defaults of its variables."""
    return yaml.safe_load(DEFAULT.sub(r"\1", (ROOT / "compose.yaml").read_text()))


class Proxy(Endpoint):
    """An nginx before the servers on ports `apps`; its files are in memory. `with Proxy(...) as proxy:` ends it.

    `settings` are variables of the templates, in place of compose.yaml's.
    """

    def __init__(self, *apps: int, **settings: object) -> None:
        super().__init__(free_port())
        self.folder = Path(tempfile.mkdtemp(prefix="pneumo-nginx-", dir="/dev/shm"))
        here = {"PROXY_APP": f"127.0.0.1:{apps[0]}", "PROXY_PORT": self.port}
        here |= {"PROXY_FILES": self.folder, "PROXY_TEMP": self.folder}
        values = compose()["services"]["proxy"]["environment"] | here | settings
        for template in TEMPLATES.glob("*.template"):
            text = template.read_text()
            if len(apps) > 1:  # as docs/scale.md says: a line for each
                text = SERVERS.sub("".join(f"server 127.0.0.1:{app} max_fails=0;\n" for app in apps), text)
            text = VARIABLE.sub(lambda found: str(values[found[1]] or ""), text)
            (self.folder / template.stem).write_text(text)
        user = ["-g", "user root;"] if os.geteuid() == 0 else []  # as root it would work as nobody
        command = [NGINX, "-e", "stderr", "-p", self.folder, "-c", self.folder / "nginx.conf", *user]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def __enter__(self) -> "Proxy":
        until(lambda: self.connect().close() is None, "nginx to listen", 10)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.folder)

    def log(self) -> str:
        """What nginx said."""
        return (self.folder / "log").read_text()
