#!/bin/sh
# Make .venv from requirements.lock, or do nothing if it is up to date. Names missing tools first.
# With the word `dev` also the tools of tests and style, from requirements-dev.lock.
# Where nvidia-smi finds a GPU, also install TensorFlow's CUDA libraries of requirements-gpu.lock; the GPU is then used automatically.
# PYTHON=/path/to/python3.12 chooses the interpreter; the default is the first supported one on the PATH.
set -eu
cd "$(dirname "$0")/.."
fail() { printf 'error: %s\n  → %s\n' "$1" "$2" >&2; exit 1; }
supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

command -v git >/dev/null || fail "git is not installed" "install git with your system's package manager"
said=$(LC_ALL=C git rev-parse --show-toplevel 2>&1) || case $said in
  *"not a git repository"*)
    fail "this folder is no Git repository; DVC needs one" "clone the project with git, or run: git init" ;;
  *) fail "git refuses this folder: $said" "do what git says above, or clone the project as this user" ;;
esac

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    if supported "$candidate"; then python=$candidate; break; fi
  done
fi
[ -n "$python" ] || fail "no Python 3.10–3.13 on the PATH" "install one, or name one: make PYTHON=/path/to/python3.12"
supported "$python" || fail "$python is no Python 3.10–3.13" "name another one: make PYTHON=/path/to/python3.12"

gpu=$(nvidia-smi --list-gpus 2>/dev/null | head -n 1 || true)
stamp=.venv/.installed
wanted="$(cat requirements.lock requirements-*.lock pyproject.toml tools/setup.sh | git hash-object --stdin) $(pwd)"
[ -z "$gpu" ] || wanted="$wanted GPU"
locks="-r requirements.lock"
if [ "${1:-}" = dev ]; then wanted="$wanted dev" locks="$locks -r requirements-dev.lock"; fi
found=$(cat $stamp 2>/dev/null || true)
if [ "$found" = "$wanted" ] || [ "$found" = "$wanted dev" ]; then exit 0; fi

free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
needs=4
[ -z "$gpu" ] || needs=9
[ "$free" -ge $needs ] ||
  fail "only $free GB free here; the packages take $((needs - 1)) GB" "free some space, or clone to a larger disk"
echo "installing the packages of ${locks#-r } into .venv ($("$python" --version), 1–3 minutes) …"
# an environment that works is brought up to date in place: a search may be running from it
supported .venv/bin/python || "$python" -m venv --clear .venv 2>/dev/null ||
  fail "$python cannot make virtual environments" "install its venv module (Debian, Ubuntu: python3-venv)"
quiet="-qq --disable-pip-version-check --no-warn-script-location"
PYTHONDONTWRITEBYTECODE='' .venv/bin/python -m pip install $quiet --no-compile --require-hashes $locks ||
  fail "the packages could not be installed" "without internet: pip download $locks -d wheels on a \
machine that has it, then PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels make"
# byte code is made here, once, on all cores: every stage starts 5–13 s faster than from sources. Packages' own tests and
# a file that is not for this Python stay without
PYTHONDONTWRITEBYTECODE='' .venv/bin/python -m compileall -qq -j 0 -x '/tests/' .venv/lib >/dev/null 2>&1 || true
if [ -n "$gpu" ]; then
  echo "installing TensorFlow's CUDA libraries for $gpu (2 GB to download) …"
  .venv/bin/python -m pip install $quiet --require-hashes -r requirements-gpu.lock || {
    echo "installation failed: the processor is used instead, and the next \`make\` tries again" >&2
    wanted=$(printf %s "$wanted" | sed 's/ GPU//')
  }
fi
.venv/bin/python -m pip install $quiet --no-deps --no-build-isolation --editable .
echo "$wanted" >$stamp
