"""What people look at: the pages and pictures that a run or a search leaves."""
