"""Write functional.npz: the cases of functional_cases.py under real PyTorch. Run: python tests/golden/make_functional.py"""

import sys
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def main():
    sys.path.insert(0, str(HERE))
    import functional_cases
    import torch

    if "jittor" in torch.__version__:
        sys.exit("make_functional.py: this is torch on Jittor; golden values come from real PyTorch")
    warnings.simplefilter("ignore")
    out = {"version": np.asarray(torch.__version__)}
    for name in functional_cases.CASES:
        for key, value in functional_cases.run(torch, name).items():
            out[f"{name}/{key}"] = value
    np.savez_compressed(HERE / "functional.npz", **out)
    print(f"{len(functional_cases.CASES)} cases, {len(out) - 1} arrays")


if __name__ == "__main__":
    main()
