"""Copies rows in main memory at the speed of one large ``memcpy``.

A C library's ``memcpy`` bypasses the cache only for single ranges of many MiB. The slices of a
weight are smaller, so ``memcpy`` would first read the memory that it overwrites, which takes half
as long again. This kernel, which LLVM compiles for the machine's processor at its first use, writes
past the cache, and copies several rows at a time so that more reads are in flight.
"""

import ctypes
from collections.abc import Callable
from functools import cache

import llvmlite.binding as llvm

_VECTOR_BYTES = 32
_STEP_BYTES = 64
_ROWS_AT_A_TIME = 8
_STRAIGHT_ROW_BYTES = 64 << 10


def can_stream_rows(target: int, target_pitch: int, width: int) -> bool:
    """Return whether the kernel can write such rows. Units: an address, and bytes."""
    return not (target % _VECTOR_BYTES or target_pitch % _VECTOR_BYTES or width % _STEP_BYTES)


def stream_rows(
    *, target: int, target_pitch: int, source: int, source_pitch: int, width: int, count: int
) -> None:
    """Copy ``count`` rows of ``width`` bytes. Releases the global interpreter lock.

    Units: addresses and bytes. Requires: :func:`can_stream_rows`.
    """
    assert can_stream_rows(target, target_pitch, width)
    _kernel()(target, target_pitch, source, source_pitch, width, count)


def stream_straight(*, target: int, source: int, width: int) -> None:
    """Copy one range, as rows that follow each other. Requires: an aligned target."""
    row = _STRAIGHT_ROW_BYTES
    done = 0
    for step in (row, _STEP_BYTES):
        count = (width - done) // step
        stream_rows(
            target=target + done,
            target_pitch=step,
            source=source + done,
            source_pitch=step,
            width=step,
            count=count,
        )
        done += count * step
    ctypes.memmove(target + done, source + done, width - done)


@cache
def _kernel() -> Callable[[int, int, int, int, int, int], None]:
    """Compile the kernel, which takes target, its pitch, source, its pitch, width and count."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_assembly()), machine)
    engine.finalize_object()
    prototype = ctypes.CFUNCTYPE(None, *(ctypes.c_size_t,) * 6)
    kernel = prototype(engine.get_function_address("copy_rows"))
    kernel.engine = engine  # type: ignore[attr-defined] # the engine owns the code
    return kernel


def _assembly() -> str:
    """Return two nested loops over groups of rows and steps along them, then single rows."""
    return f"""
define void @copy_rows(
  i64 %target, i64 %tpitch, i64 %source, i64 %spitch, i64 %width, i64 %count
) {{
start:
  %grouped = and i64 %count, {-_ROWS_AT_A_TIME}
  br label %groups
{_loop("groups", first="0", end="%grouped", rows=_ROWS_AT_A_TIME, before="start", after="rest")}
rest:
  br label %singles
{_loop("singles", first="%grouped", end="%count", rows=1, before="rest", after="done")}
done:
  fence seq_cst
  ret void
}}
!0 = !{{i32 1}}
"""


def _loop(name: str, *, first: str, end: str, rows: int, before: str, after: str) -> str:
    """Return a loop that copies rows ``first`` to ``end``, ``rows`` at a time, then ``after``."""
    body = "".join(_move(name, row, part) for row in range(rows) for part in (0, _VECTOR_BYTES))
    return f"""
{name}:
  %{name}.row = phi i64 [{first}, %{before}], [%{name}.next, %{name}.end]
  %{name}.more = icmp ult i64 %{name}.row, {end}
  br i1 %{name}.more, label %{name}.steps, label %{after}
{name}.steps:
  %{name}.at = phi i64 [0, %{name}], [%{name}.ahead, %{name}.step]
  %{name}.left = icmp ult i64 %{name}.at, %width
  br i1 %{name}.left, label %{name}.step, label %{name}.end
{name}.step:
{body}  %{name}.ahead = add i64 %{name}.at, {_STEP_BYTES}
  br label %{name}.steps
{name}.end:
  %{name}.next = add i64 %{name}.row, {rows}
  br label %{name}
"""


def _move(name: str, row: int, part: int) -> str:
    """Return code that loads one vector of one row and stores it past the cache."""
    at = f"%{name}.{row}.{part}"
    vector = f"<{_VECTOR_BYTES // 8} x i64>"
    return f"""  {at}.row = add i64 %{name}.row, {row}
  {at}.along = add i64 %{name}.at, {part}
  {at}.srow = mul i64 {at}.row, %spitch
  {at}.soff = add i64 {at}.srow, {at}.along
  {at}.saddr = add i64 %source, {at}.soff
  {at}.sptr = inttoptr i64 {at}.saddr to ptr
  {at}.value = load {vector}, ptr {at}.sptr, align 1
  {at}.trow = mul i64 {at}.row, %tpitch
  {at}.toff = add i64 {at}.trow, {at}.along
  {at}.taddr = add i64 %target, {at}.toff
  {at}.tptr = inttoptr i64 {at}.taddr to ptr
  store {vector} {at}.value, ptr {at}.tptr, align {_VECTOR_BYTES}, !nontemporal !0
"""
