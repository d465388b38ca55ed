"""Raw lines of `tiny_corpus`'s language, and what checkpoints make of them."""

from pathlib import Path

from vqnat_plugin.commands.main import main

LINES = ["w1 w2 w3", "", "w4", "w5 w6 unknown w7 w8 w9 w10 w11 w12", "w1 " * 40, "w19 w18 w17 w16"]


def generate(path: Path, folder: Path, *flags: str) -> list[str]:
    """The translations of `LINES` by `vqnat generate` with further flags; files go into `folder`."""
    text, out = folder / "in", folder / "out"
    text.write_text("".join(f"{line}\n" for line in LINES))
    main(["generate", "--path", str(path), "--cpu", "--input", str(text), "--output", str(out), *flags])
    return out.read_text().removesuffix("\n").split("\n")
