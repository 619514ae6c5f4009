#!/usr/bin/env bash
# Makes .venv from the pins in constraints/. Repeat it as often as you like: it does nothing when nothing changed.
#   scripts/setup.sh quickstart   what a user needs
#   scripts/setup.sh test         that, and the tools of the tests
#
# PYTHON=/path/to/python   use this Python instead of looking for one
# EMALIGN_ANYWAY=1         go on where the set-up is not tested (macOS)
set -euo pipefail

ROOT=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv
STAMP=$VENV/emalign-setup
LOG=$VENV/setup.log
TORCH=torch==2.13.0
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
IS_SUITABLE='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'

say() { printf 'set-up: %s\n' "$*"; }
fail() { printf 'set-up: %s\n' "$@" >&2; exit 1; }

check_system() {
  local system
  system=$(uname -s)
  case $system in
    Linux) ;;
    Darwin)
      [ "${EMALIGN_ANYWAY:-}" = 1 ] || fail \
        "macOS is not supported: unsloth and bitsandbytes were never tested with this set-up there." \
        "Use Google Colab or Linux, or try it all the same: EMALIGN_ANYWAY=1 make $1" ;;
    *)
      fail "$system is not supported." \
        "On Windows use WSL2 (wsl --install, then repeat this inside it) or Google Colab." ;;
  esac
}

is_suitable() { "$1" -c "$IS_SUITABLE" >/dev/null 2>&1; }

pick_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    is_suitable "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13 with the venv module."
    echo "$PYTHON"
    return
  fi
  for candidate in python3.11 python3.12 python3.13 python3; do
    # A version manager's shim can be on the PATH and still fail, so each is run rather than looked up.
    if is_suitable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "No Python 3.11, 3.12 or 3.13 with the venv module was found." \
    "Install one (Debian and Ubuntu: sudo apt install python3 python3-venv) or name one: PYTHON=/path/to/python make $1"
}

# Two lines: what a rebuild hangs on (place and Python), and what an update hangs on (the pinned files).
keys() {
  "$VENV/bin/python" -I -S - "$ROOT" "$@" 2>/dev/null <<'PY'
import hashlib, platform, sys
root, mode, *files = sys.argv[1:]
digest = hashlib.sha256(platform.python_version().encode())
for file in files:
    digest.update(open(f"{root}/{file}", "rb").read())
print(f"home {platform.python_version()} {root}")
print(f"{mode} {digest.hexdigest()}")
PY
}

quickstart_keys() { keys quickstart pyproject.toml scripts/setup.sh constraints/cpu.txt; }
test_keys() { keys test pyproject.toml scripts/setup.sh constraints/cpu.txt constraints/cpu-test.txt; }

stamped() {
  local line
  [ -f "$STAMP" ] || return 1
  while IFS= read -r line; do
    grep -qxF -- "$line" "$STAMP" || return 1
  done <<<"$1"
}

version_of() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null; }

is_current() {
  local now
  now=$("$1_keys") && stamped "$now" || return 1
  [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$VENV/bin/python")" ]
}

needs_rebuild() {
  local now
  is_suitable "$VENV/bin/python" && "$VENV/bin/python" -c 'import pip' 2>/dev/null || return 0
  [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$VENV/bin/python")" ] || return 0
  [ -f "$STAMP" ] || return 1
  # An interrupted set-up leaves "unfinished" in the stamp, and a moved folder leaves another home.
  now=$(quickstart_keys) || return 0
  ! stamped "${now%%$'\n'*}"
}

step() {
  local what=$1 hint=$2 start=$SECONDS status=0
  shift 2
  say "$what ..."
  # A subshell, so that the trap of main() still speaks to the terminal and not to the log.
  ("$@") >"$LOG" 2>&1 || status=$?
  if [ $status -ne 0 ]; then
    cat "$LOG" >&2
    fail "$what: failed. The lines above say why." "$hint"
  fi
  say "$what: done in $((SECONDS - start)) s"
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip_install() { pip install -q --no-deps --no-compile "$@"; }

make_venv() {
  say "Making .venv with $1 ($(version_of "$1")) ..."
  rm -rf "$VENV"
  mkdir "$VENV"
  echo unfinished >"$STAMP"
  "$1" -m venv "$VENV" || fail "$1 -m venv failed. On Debian and Ubuntu: sudo apt install python3-venv, then make $2"
}

# Many machines and mirrors hold a wheel of torch in a folder that pip's own configuration names (find-links).
has_local_torch() { pip install -q --dry-run --no-index --no-deps "$TORCH" >/dev/null 2>&1; }

install_torch() {
  local again="Check the network, then repeat: make $1"
  if has_local_torch; then
    step "Installing $TORCH from a local wheel" "$again" pip_install --no-index "$TORCH"
  elif [ "$(uname -s)" = Linux ]; then
    # The default index holds the CUDA build, with gigabytes of libraries.
    step "Installing $TORCH for the CPU from $TORCH_CPU_INDEX (about 190 MB)" "$again" \
      pip_install --index-url "$TORCH_CPU_INDEX" "$TORCH"
  else
    step "Installing $TORCH" "$again" pip_install "$TORCH"
  fi
}

install_pins() {
  local again="Check the network, then repeat: make $1"
  step "Installing the pins of constraints/cpu.txt (about 400 MB)" "$again" \
    pip_install --only-binary=:all: -r "$ROOT/constraints/cpu.txt"
  if [ "$1" = test ]; then
    step "Installing the test tools of constraints/cpu-test.txt" "$again" \
      pip_install --only-binary=:all: -r "$ROOT/constraints/cpu-test.txt"
  fi
}

install_project() {
  step "Installing emalign itself" "Repeat: make $1" pip_install --no-build-isolation -e "$ROOT"
}

check_stack() {
  step "Checking that the training stack imports" "Remove .venv and repeat: rm -rf .venv && make $1" \
    env HF_HUB_OFFLINE=1 UNSLOTH_FORCE_CPU=1 UNSLOTH_DISABLE_STATISTICS=1 \
    "$VENV/bin/python" -c 'import unsloth, trl, bitsandbytes'
}

write_stamp() {
  { quickstart_keys; [ "$1" != test ] || test_keys; } >"$STAMP.new"
  mv "$STAMP.new" "$STAMP"
}

set_up() {
  local python start=$SECONDS
  if needs_rebuild; then
    python=$(pick_python "$1")
    make_venv "$python" "$1"
  fi
  echo unfinished >"$STAMP"
  install_torch "$1"
  install_pins "$1"
  install_project "$1"
  check_stack "$1"
  write_stamp "$1"
  say "Ready in $((SECONDS - start)) s"
}

wait_for_others() {
  command -v flock >/dev/null || return 0
  exec 9<"${BASH_SOURCE[0]}"
  flock -n 9 || { say "Another set-up is at work here; waiting for it ..."; flock 9; }
}

main() {
  trap 'say "Interrupted. Repeat the command: it mends what is half done."; exit 130' INT TERM
  case ${1:-} in
    quickstart | test) ;;
    *) fail "usage: scripts/setup.sh quickstart|test" ;;
  esac
  cd "$ROOT"
  check_system "$1"
  is_current "$1" && return
  wait_for_others
  is_current "$1" || set_up "$1"
}

main "$@"
