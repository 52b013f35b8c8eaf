"""What a trained network makes of records. In this order:

embed   the verb: the states behind a layer, a row a record or a token
rows    records → the states behind a layer
states  rows in a .npy or .parquet, with the records' names
"""
