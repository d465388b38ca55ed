"""Exported models of tiny ones with random weights."""

import dataclasses
from pathlib import Path

from tiny import VOCABULARY

from vqnat_plugin.export.translation import build_graphs
from vqnat_plugin.files import sha256, write_lines
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.runtime.exported import DICTIONARIES, SIZES, SPECIALS, file_names, write_config
from vqnat_plugin.runtime.translator import Translator


def exported(model: VQNAT, folder: Path, precision: str = "fp32") -> Translator:
    """The translator of a model of `tiny.tiny_model`, without a text pipeline."""
    folder.mkdir()
    for name, graph in build_graphs(model, precision).items():
        graph.save(folder / f"{name}.onnx")
    for name in DICTIONARIES.values():
        write_lines(folder / name, [f"w{number} 1" for number in range(VOCABULARY - SPECIALS)])
    sizes = {**dataclasses.asdict(model.config), "target_symbols": VOCABULARY}
    content = {
        "precision": precision,
        "source_lang": "en",
        "target_lang": "de",
        "max_source_positions": 1024,
        "sizes": {name: sizes[name] for name in SIZES},
        "teacher": None,
        "files": {name: sha256(folder / name) for name in file_names(text=False, teacher=False)},
    }
    write_config(folder, content)
    return Translator(folder)
