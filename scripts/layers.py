"""Checks that imports within `src` go down: a module may use those of its own layer's row above, and no others.

`npy` is public, and also shows users names of modules above it. Who uses such a name uses that module.

Prints each module with what it uses. The rows are those of `src/doc/ARCHITECTURE.md`.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src"

# The first is the lowest. Modules of one row do not use each other.
ROWS = [
    ["sys"],
    ["error"],
    ["mode", "element"],
    ["layout", "npy"],
    ["parallel", "arch", "pieces"],
    ["file"],
    ["npz"],
    ["storage"],
    ["array"],
    ["open", "grow", "publish"],
    ["blocks"],
    ["tile", "gather", "strided", "field", "guarded", "real"],
]
RANK = {module: rank for rank, row in enumerate(ROWS) for module in row}


def code_of(path: Path) -> str:
    """Without comments, and without the unit tests: those may open arrays."""
    text = path.read_text()
    text = re.split(r"^#\[cfg\((?:all\()?test\b[^\n]*\n(?:#\[[^\n]*\n)*(?:pub\(\w+\) )?mod \w+ \{", text, flags=re.M)[0]
    return re.sub(r"//[^\n]*", "", text)


SHOWN = re.compile(r"^pub use crate::(\w+)::(\w+);\n", re.M)


def shown_from_above() -> dict[str, str]:
    """The names that `npy` shows users, and which modules above it they are of."""
    shown = SHOWN.findall(code_of(ROOT / "npy.rs"))
    return {name: module for module, name in shown if RANK[module] > RANK["npy"]}


def main() -> None:
    shown = shown_from_above()
    uses: dict[str, set[str]] = {module: set() for row in ROWS for module in row}
    bad = []
    for path in sorted(ROOT.rglob("*.rs")):
        module = path.relative_to(ROOT).parts[0].removesuffix(".rs")
        if module in ("lib", "doc"):
            continue
        if module not in RANK:
            bad.append(f"{path.name}: `{module}` is in no layer")
            continue
        code = code_of(path)
        if path == ROOT / "npy.rs":
            code = SHOWN.sub(lambda m: "" if m[2] in shown else m[0], code)
        used = set(re.findall(r"\bcrate::(\w+)", code.replace("$crate", "")))
        for group in re.findall(r"\bcrate::\{([^;]*)\};", code.replace("$crate", "")):
            used |= set(re.findall(r"(?:^|[{,]\s*)(\w+)", group))
        through_npy = re.findall(r"\bnpy::(\w+)", code) + re.findall(r"\bnpy::\{([^;]*)\}", code)
        used |= {shown[name] for names in through_npy for name in re.findall(r"\w+", names) if name in shown}
        if module == "npy":
            used |= {shown[name] for name in re.findall(r"\bsuper::(?:super::)?(\w+)", code) if name in shown}
        for other in sorted(used - {module}):
            if other not in RANK:
                # A name at the root, which belongs to lib.rs.
                bad.append(f"{path.relative_to(ROOT)} uses `crate::{other}`, which is no module")
            elif RANK[other] >= RANK[module]:
                bad.append(f"{path.relative_to(ROOT)} uses `{other}`, which is not below `{module}`")
            else:
                uses[module].add(other)
    for row in ROWS:
        for module in row:
            print(f"{module:9} uses {', '.join(sorted(uses[module], key=RANK.get)) or 'nothing'}")
    if bad:
        sys.exit("\n".join(bad))


main()
