"""How the emoji pictures are made: sources, catalogue of objects, rendering, styles, packs and manifest."""
