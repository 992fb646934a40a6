"""`camjax evaluate`: many methods on the same pictures, every metric, and what can be told apart."""
