"""Results to a page, JSON and Parquet.

page.py        a folder with index.html, results.json and results.parquet
charts.py      numbers to the shapes of charts
thumbnails.py  pictures small enough to lie inside a page
"""
