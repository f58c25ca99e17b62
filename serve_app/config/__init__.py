"""What a serve config may say, checked without importing Ray or TensorFlow.

May import protocols (the types of `preprocess`) and deployments.fetching.
"""
