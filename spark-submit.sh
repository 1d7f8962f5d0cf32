#!/usr/bin/env bash
# Submits a job of `python -m jobs` to a Spark cluster, in client mode. `./spark-submit.sh -h` says more.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: SPARK_MASTER=spark://host:7077 ./spark-submit.sh JOB [OPTION…]

JOB and OPTION are the words of `python -m jobs`, for example
  SPARK_MASTER=spark://host:7077 ./spark-submit.sh refine --domain leads --once --env production

Builds dist/headwater.zip of the packages and submits with it and the jars. The driver runs here, from this
folder: configuration and secret files are read here, and SIGTERM stops it between two batches.

Environment:
  SPARK_MASTER           the cluster, needed; it wins over spark.master of the configuration
  SPARK_HOME             a Spark 4.1; default: the one of the Python package pyspark
  PYSPARK_DRIVER_PYTHON  Python 3.11 of the driver; default: .venv/bin/python
  PYSPARK_PYTHON         Python 3.11 of the executors, a path on their machines, with the packages of
                         requirements.txt; default: the driver's
  PYSPARK_SUBMIT_ARGS    more options of spark-submit, for example `--conf spark.executor.memory=4g`
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
python=${PYSPARK_DRIVER_PYTHON:-$root/.venv/bin/python}
command -v "$python" >/dev/null || fail "no Python at $python: run \`make setup\`, or set PYSPARK_DRIVER_PYTHON"
"$python" -c 'import sys, pyspark; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
  || fail "$python is not a Python 3.11 with pyspark: run \`make setup\`, or set PYSPARK_DRIVER_PYTHON"
if [[ -n "${SPARK_HOME:-}" && ! -x "$SPARK_HOME/bin/spark-submit" ]]; then
  fail "no spark-submit in $SPARK_HOME/bin: set SPARK_HOME to a Spark 4.1, or unset it"
fi

# Every file that a job reads on an executor. The same content gives the same bytes: no clock, no umask.
zip=$root/dist/headwater.zip
mkdir -p "$root/dist"
"$python" - "$root" "$zip" conf headwater schemas sources transformations sinks jobs <<'PY'
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
            entry = zipfile.ZipInfo(name.as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
draft.replace(target)
PY

# As spark-submit is called for a driver that is Python from the start: pyspark starts it with these options.
# A JVM as the parent would take SIGTERM for itself, and end in the middle of a batch.
printf -v quoted '%q' "$zip"
export PYSPARK_SUBMIT_ARGS="--py-files $quoted --conf spark.executorEnv.TZ=UTC ${PYSPARK_SUBMIT_ARGS:-} pyspark-shell"
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$python}
export HEADWATER_SPARK__MASTER=$SPARK_MASTER
export TZ=UTC
cd "$root"
exec "$python" "$root/jobs/__main__.py" "$@"
