"""The glue between torch's API and Jittor: start-up, kernels, and one file of import-time patches per library.

Importing this package does not import jittor or torch. ``python -m jtorch`` lists every patch.
"""
