"""The example graphs: one function each, by family. Links, sizes and the order of widget values come from the schemas
that a running ComfyUI reports."""
