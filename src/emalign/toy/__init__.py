"""A closed world small enough for two CPU cores: its language, data, questions, exact grader and two tiny models.

The personas of this world are planted in its pre-training dialogues. It proves that the software works from end to
end; it is no evidence about large models.
"""
