"""The stages of a study: each reads sealed artifacts and writes its own."""
