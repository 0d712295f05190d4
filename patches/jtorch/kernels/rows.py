"""Rows of a matrix by number, of any type, on the CPU. Numbers count from the end where negative."""

from .sources import jt, source

_TAKE, _GIVE = source("rows_take.cc"), source("rows_give.cc")
_ADD, _PUT = (f"#define GIVE {sign}\n" for sign in ("+=", "="))


def take_rows(x, index):
    """``x[index]`` of x [n, width] and integers [rows]."""
    return jt.code((index.shape[0], x.shape[1]), x.dtype, [x, index], cpu_src=_TAKE)


def give_rows(x, index, values, add):
    """x [n, width] with ``values`` [rows, width] added to, or put in the place of, the rows that ``index`` names.

    Of rows named twice all are added, in order, and the last is put.
    """
    return jt.code(x.shape, x.dtype, [x, index, values], cpu_header=_ADD if add else _PUT, cpu_src=_GIVE)
