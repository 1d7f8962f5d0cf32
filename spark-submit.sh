#!/usr/bin/env bash
# Submits a job of `python -m jobs` to a Spark cluster, in client mode. `./spark-submit.sh -h` says more.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: SPARK_MASTER=spark://host:7077 ./spark-submit.sh JOB [OPTION…]

JOB and OPTION are the words of `python -m jobs`, for example
  SPARK_MASTER=spark://host:7077 ./spark-submit.sh refine --domain leads --once --env production

Builds dist/headwater.zip of the packages, ships it and the jars to the executors, and starts the driver
here, from this folder. Configuration and secret files are read here.

Environment:
  SPARK_MASTER           the cluster, needed; it wins over spark.master of the configuration
  SPARK_HOME             a Spark 4.1; default: the one of the Python package pyspark
  PYSPARK_DRIVER_PYTHON  Python 3.11 of the driver; default: .venv/bin/python
  PYSPARK_PYTHON         Python 3.11 of the executors, a path on their machines, with the packages of
                         requirements.txt; default: the driver's
  HEADWATER_*            configuration, see docs/configuration.md

Exit codes are those of the job: 0 done, 1 failed, 2 set-up is wrong, 3 a quality gate, 4 runs already.
TEXT
}

fail() {
  printf 'spark-submit.sh: %s\n' "$1" >&2
  exit 2
}

case "${1:-}" in
  -h | --help)
    usage
    exit 0
    ;;
  "")
    usage >&2
    exit 2
    ;;
esac
if [[ -z "${SPARK_MASTER:-}" ]]; then
  fail "SPARK_MASTER is not set: export SPARK_MASTER=spark://<host>:7077"
fi

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
packages=(conf headwater schemas sources transformations sinks jobs)
python=${PYSPARK_DRIVER_PYTHON:-$root/.venv/bin/python}
command -v "$python" >/dev/null || fail "no Python at $python: run \`make setup\`, or set PYSPARK_DRIVER_PYTHON"
"$python" -c 'import sys, pyspark; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
  || fail "$python is not a Python 3.11 with pyspark: run \`make setup\`, or set PYSPARK_DRIVER_PYTHON"

# The environment's name may be among the job's own words.
environment=${HEADWATER_ENV:-local}
previous=""
for word in "$@"; do
  if [[ "$previous" == --env ]]; then environment=$word; fi
  if [[ "$word" == --env=* ]]; then environment=${word#--env=}; fi
  previous=$word
done

# With spark-submit the JVM runs before headwater/session.py does: what concerns the driver's JVM comes now.
# First line: the folder of the jars, empty when the cluster has them. Then key=value.
settings=$(
  cd "$root" && "$python" - "$environment" <<'PY'
import sys
from pathlib import Path

from headwater.errors import SetupError
from headwater.session import _defaults
from headwater.settings import ROOT, load_settings

try:
    settings = load_settings(sys.argv[1])
except SetupError as fault:
    sys.exit(f"spark-submit.sh: {fault}")
jars = settings.spark.jars
print(ROOT / Path(jars) if jars else "")
for key, value in {**_defaults(settings), **settings.spark.conf}.items():
    if key.startswith("spark.driver.") and key != "spark.driver.extraClassPath":
        print(f"{key}={value}")
PY
) || exit 2

options=()
jars=""
number=0
while IFS= read -r line; do
  number=$((number + 1))
  if [[ "$number" -eq 1 ]]; then
    jars=$line
  else
    options+=(--conf "$line")
  fi
done <<<"$settings"

if [[ -n "$jars" ]]; then
  compgen -G "$jars/*.jar" >/dev/null || fail "no jars in $jars: run \`make setup\`, or set spark.jars: null"
  list=$(printf '%s,' "$jars"/*.jar)
  options+=(--jars "${list%,}" --driver-class-path "$jars/*")
fi

zip=$root/dist/headwater.zip
mkdir -p "$root/dist"
"$python" - "$root" "$zip" "${packages[@]}" <<'PY'
import os
import sys
import zipfile
from pathlib import Path

root, target = Path(sys.argv[1]), Path(sys.argv[2])
draft = target.with_name(f".{target.name}.{os.getpid()}")
with zipfile.ZipFile(draft, "w") as archive:
    for package in sys.argv[3:]:
        for path in sorted((root / package).rglob("*")):
            name = path.relative_to(root)
            if not path.is_file() or "__pycache__" in name.parts:
                continue
            # The same content gives the same bytes: no clock, no umask.
            entry = zipfile.ZipInfo(name.as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
draft.replace(target)
PY

if [[ -z "${SPARK_HOME:-}" ]]; then
  SPARK_HOME=$("$python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')
fi
submit=$SPARK_HOME/bin/spark-submit
[[ -x "$submit" ]] || fail "no spark-submit at $submit: set SPARK_HOME to a Spark 4.1, or unset it"

export SPARK_HOME
export PYSPARK_DRIVER_PYTHON=$python
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$python}
export TZ=UTC
# The session's own master would win over --master.
export HEADWATER_SPARK__MASTER=$SPARK_MASTER

exec "$submit" \
  --master "$SPARK_MASTER" \
  --deploy-mode client \
  --name "headwater $1" \
  --py-files "$zip" \
  --conf spark.executorEnv.TZ=UTC \
  "${options[@]}" \
  "$root/jobs/__main__.py" "$@"
