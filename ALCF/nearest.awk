# Which known name was meant? Input lines: "known NAME", "other NAME" (of another program) and
# "likely PATTERN NAME" first, then "word NAME"; prints "WORD NAME" for a word that is no known name but
# resembles one. With -v anything=1 the nearest
# name is taken from further away (keys of a table, where every word must be one of them).

function squash(text) {
    gsub(/_/, "", text)
    return toupper(text)
}

function least(a, b) {
    return a < b ? a : b
}

# Edits from a to b: a letter more, a letter less, a swap of neighbours, or another letter at a price.
function distance(a, b, price,    i, j, m, n, cost, d) {
    m = length(a); n = length(b)
    for (i = 0; i <= m; i++) d[i, 0] = i
    for (j = 0; j <= n; j++) d[0, j] = j
    for (i = 1; i <= m; i++)
        for (j = 1; j <= n; j++) {
            cost = substr(a, i, 1) == substr(b, j, 1) ? 0 : price
            d[i, j] = least(least(d[i - 1, j], d[i, j - 1]) + 1, d[i - 1, j - 1] + cost)
            if (i > 1 && j > 1 && substr(a, i, 1) == substr(b, j - 1, 1) && substr(a, i - 1, 1) == substr(b, j, 1))
                d[i, j] = least(d[i, j], d[i - 2, j - 2] + 1)
        }
    return d[m, n]
}

# How far a misspelling of a name of this length may be; the shortest resemble too much.
function reach(size) {
    if (anything) return size < 6 ? 1 : 3
    return size < 4 ? 0 : size < 12 ? 1 : 2
}

# What another letter costs: in a short name it makes another word, as LOAD and ROAD.
function another_letter(size) {
    return anything || size > 5 ? 1 : 2
}

function nearest(word,    i, gap, best, best_gap) {
    best_gap = 99
    for (i = 1; i <= names; i++) {
        if (squash(word) == squash(name[i]) && length(name[i]) > 4) return name[i]
        if (length(word) - length(name[i]) > 3 || length(name[i]) - length(word) > 3) continue
        gap = distance(toupper(word), name[i], another_letter(length(name[i])))
        if (gap <= reach(length(name[i])) && gap < best_gap) { best = name[i]; best_gap = gap }
    }
    return best
}

# Words that people write for what we call otherwise, by the patterns of the table.
function likely(word,    i) {
    for (i = 1; i <= patterns; i++) if (word ~ pattern[i]) return meant_by[i]
    return ""
}

# PATTERN of the shell, with * and ?, as an expression.
function expression(text) {
    gsub(/\*/, ".*", text)
    gsub(/\?/, ".", text)
    return "^" text "$"
}

$1 == "known" { name[++names] = $2; is_known[$2] = 1 }
$1 == "other" { is_known[$2] = 1 }
$1 == "likely" {
    pattern[++patterns] = expression($2)
    meant_by[patterns] = substr($0, length($1 $2) + 3)
}

$1 == "word" && !($2 in is_known) {
    meant = ""
    if (!anything) {
        if ($2 ~ /^(WANDB_|SLURM_|PBS_|OMP_|LONGSEQ_|PYTHON)/) next # families of others, and our own
        meant = likely($2)
    }
    if (meant == "") meant = nearest($2)
    if (meant != "") print $2, meant
}
