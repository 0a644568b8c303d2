"""A trained recogniser as one ONNX file: features, encoder and head, and what its use needs."""
