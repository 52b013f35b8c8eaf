"""One run: its folder, its records, what people see of it and how it ends. In this order:

check        everything that can go wrong before a rank starts goes wrong here: `longseq check`
folder       outputs/RUN, made so that two jobs never share it
resumed      what a run that goes on takes over from the one before, and what it does otherwise
screen       one updating line and the lines that stay, or plain lines; the log behind them
tracking     metrics.jsonl, TensorBoard, Weights & Biases (wandb_sink)
throughput   FLOPs of a step, counted in the two ways that people compare
peak         the memory of the first steps beside what was planned
summary      what a run says of itself at its start and end
environment  versions, commit, hosts and hardware, and the variables that repeat a run
safety/      what ends a run or holds it back: signals, time, hangs, spikes, failures
sync         offline records to Weights & Biases: `longseq sync`
stdio        what libraries print goes to the rank's own file
"""
