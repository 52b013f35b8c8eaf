"""What the figures in README.md and docs/ come from: `python -m benchmarks --list`.

speed/    time, mostly as a ratio of runs in turn
memory/   what a rank holds
data/     preparing and reading data
anchors/  what ours is measured against: plain PyTorch, upstream Megatron-DeepSpeed, numpy

__main__  finds a benchmark by its name      readme  measures README's table again
start     starts ranks                       worker  what they run: some steps of a Trainer
timing    runs in turn, and their ratio      table   prints rows as they come
predicted rows of published tables as runs that can be planned
plot      the pictures in docs/         measured  runs one command, says its time and memory
environment  what a Python without torch is told

A benchmark says in its docstring what it measures and against what, and has two functions:
`arguments(parser)` adds its options, `main(options)` measures, prints and may return its figures in
one line, as README's table has them.
"""
