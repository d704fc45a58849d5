"""The verifier: judges proposals by code of its own, independent of every solver and every lowering."""
