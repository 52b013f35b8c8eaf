"""The orders in which versions of Megatron-DeepSpeed lay queries, keys and values, by name."""

BY_HEAD, BY_KIND = ORDERS = ("by-head", "by-kind")
MEANING = {
    BY_HEAD: "head by head",
    BY_KIND: "one kind after the other",
}
