"""Hub encoders import nothing that they do not need yet, and nothing of indexes and stores at all."""

import subprocess
import sys
from pathlib import Path

import mmrec.encoders.hub

LATER = (
    "transformers",
    "sentence_transformers",
    "open_clip",
    "timm",
    "torchaudio",
    "huggingface_hub",
    "faiss",
    "lance",
)
MODULES = sorted(f"mmrec.encoders.hub.{path.stem}" for path in Path(mmrec.encoders.hub.__path__[0]).glob("[a-z]*.py"))

_WITHOUT = """
import sys
from importlib import import_module

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {later}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
for name in {modules}:
    import_module(name)
"""


def test_every_module_imports_without_the_libraries_it_reads_models_with():
    assert len(MODULES) > 10
    code = _WITHOUT.format(later=LATER, modules=MODULES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
