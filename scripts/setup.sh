#!/usr/bin/env bash
# Install everything into the clone: a virtual environment from requirements/dev.txt and the jars. Where nothing has
# changed since the last run it installs nothing and says nothing. A JDK is not of the clone: where none is there, the
# command that installs one is said, and run only where that was asked for, or by root in a container.
#
#   PYTHON=/path/to/python3.12   the interpreter to build the environment with
#   SETUP_INSTALL_JDK=yes        install a missing JDK with apt (by sudo, if you are not root); no: never
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Lists of paths, URIs and scripts' first lines, of which Java, Spark and Python make use, give these a meaning.
case $PWD in
  *[:\;,#%?*\"\\\$\`\|\&\<\>\{\}\[\]]* | *[[:cntrl:]]*)
    printf 'setup: the clone lies in %q. Move it to a folder whose path has none of  : ; , # %% ? * " \\ $ ` | & < > { } [ ]  '"\n" \
      "$PWD" >&2
    exit 1
    ;;
esac
# In the C locale a JVM cannot spell a path beyond ASCII.
case $(locale charmap 2>/dev/null || true) in UTF-8 | utf8) ;; *) export LC_ALL=C.UTF-8 ;; esac

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
  local candidate candidates=(python3.11 python3.12 python3 python)
  local asked=${SETUP_PYTHON:-${PYTHON:-}}  # the first by make, whose own PYTHON is the environment's
  [ -z "$asked" ] || candidates=("$asked")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
      >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or 3.12 with the venv module was found${asked:+ as $asked}.
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

# Whether to install a JDK on this machine: where somebody asked for it, or root in a container, which has nobody else.
may_install_jdk() {
  case ${SETUP_INSTALL_JDK:-} in
    yes) return 0 ;;
    no) return 1 ;;
  esac
  [ "$(id -u)" = 0 ] && { [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${container:-}" ]; }
}

apt_install_jdk() {
  local sudo=
  if [ "$(id -u)" != 0 ]; then sudo=sudo; fi
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
    if may_install_jdk; then
      apt_install_jdk
      found=$(jdk_version || true)
      case $found in 17 | 21) return ;; esac
    fi
    command="sudo apt-get install -y --no-install-recommends $(apt_package)   (or SETUP_INSTALL_JDK=yes make setup)"
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
  local total=$1 n=0 line name tty=
  [ ! -t 1 ] || tty=yes
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$log"
    case $line in
      "Collecting "* | "Requirement already satisfied: "*)
        n=$((n + 1))
        name=${line#Collecting }
        name=${name#Requirement already satisfied: }
        if [ -n "$tty" ]; then
          printf '\r\033[K  %d of %d: %s' "$n" "$total" "${name%% *}"
        elif [ $((n % 40)) = 0 ]; then
          printf '  %d of %d\n' "$n" "$total"
        fi
        ;;
      "Building wheels"* | "Installing collected"*)
        printf "${tty:+\\r\\033[K}"'  %.60s …\n' "$line"
        ;;
    esac
  done
  [ -z "$tty" ] || printf '\r\033[K'
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
  # What lies in the clone is imported from there; a job's --py-files come before it. Relative to site-packages: Python
  # reads this file in the locale's encoding.
  printf '%s\n' ../../../../src ../../../../services ../../../.. >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lakehouse.pth"
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
