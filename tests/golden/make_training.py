"""Makes training.json with real PyTorch: `.venv-reference/bin/python tests/golden/make_training.py`."""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import torch  # noqa: E402
import training_cases as cases  # noqa: E402


def main():
    torch.set_num_threads(1)
    golden = {
        "torch": torch.__version__,
        "optimizers": {name: cases.run_optimizer(name) for name in cases.OPTIMIZERS},
        "schedules": {f"{name}/{kind}": cases.run_schedule(name, kind)
                      for name in cases.SCHEDULES for kind in ("SGD", "AdamW")},
        "loaders": {name: cases.run_loader(name) for name in cases.LOADERS},
    }
    (HERE / "training.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
