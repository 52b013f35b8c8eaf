"""One run: its folder, its records, what people see of it and how it ends. In this order:

check        everything that can go wrong before a rank starts goes wrong here: `longseq check`
folder       outputs/RUN, made so that two jobs never share it
screen       one updating line and the lines that stay, or plain lines; the log behind them
tracking     metrics.jsonl, TensorBoard, Weights & Biases (wandb_sink)
throughput   FLOPs of a step, counted in the two ways that people compare
summary      what a run says of itself at its start and end
stopping     signals, the end of the job's time
failure      recorded in the summary; out of memory said in numbers, with the remedy
abort        a rank that fails says so once, and takes the others with it
watch        ranks watch each other: heartbeat, and hangs with the stack of who is missed
environment  versions, commit, hosts and hardware, and the variables that repeat a run
stdio        what libraries print goes to the rank's own file
"""
