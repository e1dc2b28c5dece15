"""Synthetic faces with known dynamics: the embedded default data and the scientific test bench.

The traits bear the names of the five-factor model and have NOTHING to do with personality: they are fixed mixtures of
the parameters by which these drawings move (dynamics.TRAIT_WEIGHTS). A score on them says what a method can read off
a face's movement, and nothing about people.

What the default bench holds (96 people, 2 tasks x 2 clips of 120 to 180 frames at 32 x 32, ridge, 10 folds; mean PCC over
the five traits): statistics of the true tracks 0.83; eight principal components of the pixels, their spread,
autocorrelations and increments' correlations and skewness 0.54, and -0.16 with each clip's frames shuffled; mean face
-0.17 (a ridge that finds nothing predicts each fold's complement, so chance lies a little below 0).
"""
