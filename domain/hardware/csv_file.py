"""Reads the factory's CSV files line by line, within bounds."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence

MAX_REPORTED_FAULTS = 20
_MAX_FIELD = 200


def rows_of(
    content: bytes,
    columns: Sequence[str],
    *,
    refusal: Callable[[str], Exception],
    max_bytes: int,
    max_lines: int,
) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV file below its header, with their number; texts are stripped, blank lines left out.

    Args:
        refusal: makes the error for a file that cannot be read.
    """
    if len(content) > max_bytes:
        raise refusal(f"The file has {len(content)} bytes; at most {max_bytes} are imported at a time.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refusal(f"The file is not UTF-8: byte {error.start} cannot be read.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    count = 0
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            if header is None:
                header = [name.lower() for name in row]
                _check_header(header, columns, refusal)
                continue
            count += 1
            if count > max_lines:
                raise refusal(f"The file has more than {max_lines} lines; split it.")
            if len(row) != len(header):
                raise refusal(f"line {reader.line_num}: there are {len(row)} fields, not {len(header)}.")
            if any(len(cell) > _MAX_FIELD for cell in row):
                raise refusal(f"line {reader.line_num}: a field has more than {_MAX_FIELD} characters.")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise refusal(f"line {reader.line_num}: the line is not CSV: {error}.") from error
    if header is None:
        raise refusal(f"The file is empty; its first line must name the columns {', '.join(columns)}.")


def refuse_faults(faults: Sequence[str], refusal: Callable[[str], Exception]) -> None:
    """Raises: the refusal, with the first `MAX_REPORTED_FAULTS` faults, when there are any."""
    if faults:
        more = f"\n... and {len(faults) - MAX_REPORTED_FAULTS} more" if len(faults) > MAX_REPORTED_FAULTS else ""
        raise refusal("\n".join(faults[:MAX_REPORTED_FAULTS]) + more)


def _check_header(header: Sequence[str], columns: Sequence[str], refusal: Callable[[str], Exception]) -> None:
    missing = [name for name in columns if name not in header]
    unknown = sorted({name[:40] for name in header if name not in columns})
    if missing or unknown or len(set(header)) != len(header):
        wrong = [f"missing: {', '.join(missing)}"] if missing else []
        wrong += [f"unknown: {', '.join(unknown)}"] if unknown else []
        wrong += ["a column is named twice"] if len(set(header)) != len(header) else []
        raise refusal(f"The columns of the file are wrong ({'; '.join(wrong)}); they are {', '.join(columns)}.")
