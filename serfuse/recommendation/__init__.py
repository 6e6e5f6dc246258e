"""Which representations and which fusion to use on a corpus, by an evaluation that the choice cannot flatter.

* `candidates`: what is worth trying with the embeddings that a store holds;
* `inner`: predictions of models that saw neither of two folds, which the choice for either of them rests on;
* `choice`: the choice made anew inside each training part, and the predictions that follow from it;
* `recommend`: all of it within a stated time, ending in one sentence.
"""
