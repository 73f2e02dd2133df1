"""Compressed pixels of a DICOM file -> stored values, in a process of their own.

Decoders in C meet whatever was sent, and GDCM 3.2 ends its process on many a damaged film. Here that costs one film,
not the server; memory and time have a limit, whatever the pixels would expand to; and no other film is in reach. The
process is this file, run as a script: options as argument, the frame on its stdin, dtype and values on its stdout.
"""

import json
import os
import subprocess
import sys

import numpy as np

SECONDS = 30
MEMORY = 512 * 2**20  # a process with all decoders loaded, and a small film
MEMORY_A_PIXEL = 24  # 16 bits, and what the decoders hold beside them


def decode_frame(frame: bytes, syntax: str, plugin: str, options: dict[str, str | int]) -> np.ndarray:
    """Decode one frame with the plugin of pydicom's: (rows, columns), (u)int8 or (u)int16, as stored.

    `options` are those of pydicom's decoders, with `rows` and `columns`.

    Raises:
        ValueError: it is damaged, of another size than promised, or too much work.
    """
    arguments = json.dumps({"syntax": syntax, "plugin": plugin, "options": options})
    command = [sys.executable, "-I", __file__, arguments]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # whose threads would use up the memory
    try:
        # what the decoders have to say goes nowhere
        done = subprocess.run(
            command, input=frame, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ValueError("too much work") from None
    kind, values = done.stdout[:3].decode(), done.stdout[3:]
    if done.returncode or kind not in ("|u1", "|i1", "<u2", "<i2"):
        raise ValueError("damaged")
    return np.frombuffer(values, kind).reshape(options["rows"], options["columns"])


def main() -> None:
    """The other side of `decode_frame`."""
    import resource

    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    asked = json.loads(sys.argv[1])
    limit = MEMORY + MEMORY_A_PIXEL * asked["options"]["rows"] * asked["options"]["columns"]
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would leave the film on the disk
    frame = encapsulate([sys.stdin.buffer.read()])
    values, _ = get_decoder(asked["syntax"]).as_array(
        frame, raw=True, decoding_plugin=asked["plugin"], pixel_keyword="PixelData", **asked["options"]
    )
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    sys.stdout.buffer.write(little.dtype.str.encode() + little.tobytes())


if __name__ == "__main__":
    main()
