#!/usr/bin/env bash
# Build the wheel, install it into a fresh environment far from the sources, and use it there.
#
#   tools/wheel_check.sh PYTHON           with all that it needs, pinned by constraints.txt
#   tools/wheel_check.sh PYTHON --light   without torch and Numba: what works and compiles without them
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 light=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK=1 FIRSTSPIKE_CACHE="$work/cache"
cp constraints.txt "$work"

"$python" -m venv "$work/venv"
bin="$work/venv/bin"
"$bin/pip" wheel --quiet --no-deps --wheel-dir "$work" .
wheel=$(echo "$work"/firstspike-*.whl)
"$bin/python" - "$wheel" <<'EOF'
import sys, zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
needed = ("__init__.pyi", "py.typed", "export/web/page.html", "export/c_program/walk.c")
needed += tuple(f"networks/mnist-{kind}/model.safetensors" for kind in ("classifier", "generator"))
assert {f"firstspike/{name}" for name in needed} <= set(names), names
assert all(name.startswith(("firstspike/", "firstspike-")) for name in names), names
print(f"{len(names)} files in the wheel")
EOF

cd "$work"
if [ "$light" = --light ]; then
    "$bin/pip" install --quiet -c constraints.txt numpy rich filelock tqdm
    "$bin/pip" install --quiet --no-deps "$wheel"
    "$bin/python" -W error -m compileall -q -f "$("$bin/python" -c 'import firstspike; print(*firstspike.__path__)')"
else
    "$bin/pip" install --quiet -c constraints.txt "$wheel"
    "$bin/firstspike" demo --epochs 3 --out "$work/demo"
    "$bin/firstspike" presets >/dev/null
    "$bin/python" -W error - <<'EOF'
import torch

import firstspike as fs

network = fs.Stack(fs.Linear(64, 32), fs.Linear(32, 10, fs.Window.output(32)), steps=16)
spikes = fs.encode_latency(torch.rand(5, 64), 16)
score = fs.FirstSpike().decide(network(spikes)).score(torch.arange(5))
print(score)
EOF
fi
"$bin/firstspike" --version
"$bin/firstspike" --help >/dev/null
echo "wheel works on $("$bin/python" --version)"
