"""Compile inference.proto into serve_app/grpc/inference_pb2.py; `--check` only says whether that is up to date.

The output is the file's serialized descriptor alone: protoc's own Python output registers it in the process-wide pool,
where tritonclient and kserve have messages of the same names.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto" / "inference.proto"
TARGET = ROOT / "serve_app" / "grpc" / "inference_pb2.py"
WIDTH = 100


def compiled() -> str:
    """Return the module's text for the present source."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.bin"
        include = str(files("grpc_tools") / "_proto")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCE.parent}", f"-I{include}"]
        subprocess.run([*command, f"--descriptor_set_out={out}", SOURCE.name], check=True)
        raw = out.read_bytes()
    lines = [f"    {raw[i : i + WIDTH // 4]!r}" for i in range(0, len(raw), WIDTH // 4)]
    return "\n".join(
        [
            '"""Compiled from proto/inference.proto by proto/compile.py; not edited by hand."""',
            "",
            "FILE_SET = (",
            *lines,
            ")",
            "",
        ]
    )


def main() -> int:
    """Write the module, or with `--check` compare it; return the exit status."""
    text = compiled()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET.name} is out of date: run python proto/compile.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
