#!/usr/bin/env bash
# Install everything into the clone: a virtual environment from requirements/dev.txt, a JDK if none is there and apt
# may install one, the jars. Where nothing has changed since the last run it installs nothing and says nothing.
#
#   PYTHON=/path/to/python3.12   the interpreter to build the environment with
#   SETUP_INSTALL_JDK=no         never install a JDK, only say how
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamp=$venv/.installed
log=.local/logs/setup.log

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

sum() {
  if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi
}

# A Python 3.11 or 3.12 that runs and can make an environment: a name on PATH may be a shim that does not.
python_for_venv() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3 python}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
      >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or 3.12 with the venv module was found${PYTHON:+ as $PYTHON}.
  Debian, Ubuntu:  sudo apt-get install -y python3 python3-venv   (or python3.12 python3.12-venv)
  macOS:           brew install python@3.12
  then run this again, or name one:  make setup PYTHON=/path/to/python3.12"
}

# The major version of the JDK in use (JAVA_HOME, else PATH), or nothing; a JRE without javac is not enough.
jdk_version() {
  local bin=${JAVA_HOME:+$JAVA_HOME/bin/}
  command -v "${bin}java" >/dev/null && "${bin}javac" -version 2>&1 | sed -nE 's/^javac ([0-9]+).*/\1/p'
}

# A container without package lists knows neither; 17 is in most releases, 21 where it is gone.
apt_package() {
  if ! apt-cache show openjdk-17-jdk-headless >/dev/null 2>&1 &&
    apt-cache show openjdk-21-jdk-headless >/dev/null 2>&1; then
    echo openjdk-21-jdk-headless
  else
    echo openjdk-17-jdk-headless
  fi
}

apt_install_jdk() {
  local sudo=
  if [ "$(id -u)" != 0 ]; then sudo="sudo -n"; fi
  if [ -n "$sudo" ] && ! $sudo true 2>/dev/null; then return 1; fi
  echo "setup: no JDK 17 or 21; installing one with apt (about 200 MB) …"
  {
    $sudo apt-get update &&
      $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$(apt_package)"
  } >>"$log" 2>&1 || echo "setup: apt could not; its words are in $log" >&2
}

jdk() {
  local found command
  found=$(jdk_version || true)
  case $found in 17 | 21) return ;; esac
  [ -z "${JAVA_HOME:-}" ] ||
    fail "JAVA_HOME is $JAVA_HOME, which holds ${found:+JDK }${found:-no JDK}; Spark 4.1 runs on 17 or 21.
  Correct it, or unset it and run this again."
  if command -v apt-get >/dev/null; then
    if [ "${SETUP_INSTALL_JDK:-yes}" != no ] && apt_install_jdk; then
      found=$(jdk_version || true)
      case $found in 17 | 21) return ;; esac
    fi
    command="sudo apt-get install -y --no-install-recommends $(apt_package)"
  elif command -v brew >/dev/null; then
    command="brew install openjdk@17 && export JAVA_HOME=\$(brew --prefix openjdk@17)/libexec/openjdk.jdk/Contents/Home"
  else
    command="sudo dnf install -y java-17-openjdk-devel   (or what your system calls a JDK 17 or 21)"
  fi
  fail "Spark 4.1 needs a JDK 17 or 21${found:+, found $found}. Type this, then run it again:
  $command"
}

# One line that moves on a terminal, one in 40 elsewhere; pip's own words go to the log.
progress() {
  awk -v total="$1" -v log_file="$log" -v tty="$([ -t 1 ] && echo 1 || echo 0)" '
    { print >> log_file }
    /^Collecting / {
      n++
      if (tty) printf "\r\033[K  %d of %d: %s", n, total, $2
      else if (n % 40 == 0) printf "  %d of %d\n", n, total
      fflush()
    }
    /^Building wheels|^Installing collected/ { if (tty) printf "\r\033[K"; print "  " substr($0, 1, 60) " …"; fflush() }
    END { if (tty) printf "\r\033[K" }'
}

install_python() {
  local python count started=$SECONDS
  # An environment does not move: its commands name the interpreter by its path.
  if ! "$venv/bin/python" -c '' 2>/dev/null || ! grep -qsF "$PWD/$venv" "$venv/bin/pip"; then
    python=$(python_for_venv)
    echo "setup: making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
  fi
  count=$(grep -cE '^[a-zA-Z0-9]' requirements/dev.txt)
  echo "setup: installing what requirements/dev.txt pins: $count packages, some 900 MB and a few minutes the first time …"
  # no-deps: the pins are the whole set, resolved; pip would spend minutes on finding the same.
  "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
    --no-deps --require-hashes -r requirements/dev.txt 2>>"$log" | progress "$count" ||
    fail "pip could not install them. The end of $log:
$(tail -n 15 "$log")"
  # pip leaves this out where PYTHONDONTWRITEBYTECODE is set; without it every process compiles what it imports anew.
  env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -m compileall -q -j 0 "$venv"/lib/python*/site-packages >>"$log" 2>&1 || true
  # What lies in the clone is imported from there; a job's --py-files come before it.
  printf '%s\n' "$PWD/src" "$PWD" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lakehouse.pth"
  echo "setup: installed in $((SECONDS - started)) s"
}

if [ -L "$venv" ]; then
  exit # it belongs to another clone, which keeps it up to date
fi
mkdir -p "$(dirname "$log")"
wanted="$(sum requirements/dev.txt scripts/setup.sh | cut -d' ' -f1 | tr '\n' ' ')$PWD"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || [ ! -x "$venv/bin/python" ]; then
  : >"$log"
  jdk
  install_python
  printf '%s\n' "$wanted" >"$stamp"
fi
if ! jars=$("$venv/bin/python" scripts/fetch_jars.py --quiet); then
  jdk # says what to install, if that was it
  exit 1
fi
[ -z "$jars" ] || printf '%s\n' "$jars"
if ! ls .local/cds/*.jsa >/dev/null 2>&1; then
  echo "setup: an archive of classes, for a faster start of every job; half a minute, once …"
  "$venv/bin/python" -m local.class_archive
fi
