"""`longseq data report PREFIX`: what a biologist asks of a data set, on one page. In this order:

facts     all figures of it, from its files
pictures  some of them drawn
page      PREFIX.report.html, and the same as a table on the terminal
"""
