"""What is known of records and documents, kept beside the tokens.

Each takes a bad file back: `mark()` before every file, `rollback()` to what it was there.

records    of each record, from its file and --metadata; and so its group
features   of documents that are annotated features: the table of them, and how far they reach
tags       what is known as tokens before documents
"""
