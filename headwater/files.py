"""Files of the lake, wherever it lives, by Hadoop's file systems."""

from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession


def read_text(spark: SparkSession, path: str) -> str | None:
    """The UTF-8 text of a small file; None when it is not there."""
    files, place = _resolve(spark, path)
    if not files.exists(place):
        return None
    stream = files.open(place)
    try:
        jvm: Any = spark._jvm
        return str(getattr(jvm, "org.apache.commons.io.IOUtils").toString(stream, "UTF-8"))
    finally:
        stream.close()


def delete_folder(spark: SparkSession, path: str) -> bool:
    """Delete a folder with all it holds; whether it was there."""
    files, place = _resolve(spark, path)
    return bool(files.delete(place, True))


def folders(spark: SparkSession, path: str) -> list[str]:
    """The names of the folders in a folder."""
    files, place = _resolve(spark, path)
    if not files.exists(place):
        return []
    return [str(one.getPath().getName()) for one in files.listStatus(place) if one.isDirectory()]


def local_folders(path: str) -> list[str]:
    """The same of a folder of this machine, without a JVM."""
    root = Path(path)
    return [entry.name for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []


def plain_local_files(spark: SparkSession) -> None:
    """No `.crc` beside every local file: delta-rs replaces files without renewing them.

    Besides, Hadoop runs a process for each file it makes or renames when its native library is not there.
    """
    jvm: Any = spark._jvm
    local = getattr(jvm, "org.apache.hadoop.fs.FileSystem").getLocal(spark._jsc.hadoopConfiguration())
    local.setWriteChecksum(False)
    local.setVerifyChecksum(False)


def _resolve(spark: SparkSession, path: str) -> tuple[Any, Any]:
    jvm: Any = spark._jvm
    place = getattr(jvm, "org.apache.hadoop.fs.Path")(path)
    return place.getFileSystem(spark._jsc.hadoopConfiguration()), place
