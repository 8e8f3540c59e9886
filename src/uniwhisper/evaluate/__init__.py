"""Judge a frozen encoder: tables of labelled files in; kNN and probe scores with intervals out.

    tables -> splits -> embeddings -> knn, probe -> predictions -> bootstrap -> results -> compare, render

`run.evaluate` drives the line. Everything after `predictions` reads only stored files, so a reader of the results
recomputes every interval without the model and gets the same bounds.
"""
