"""Distribution heads: Keras layers that map features to the parameters of a TFP distribution.

`head.DistributionHead` ends q(h_l | .) and p(h_l | .) of a stochastic layer, `head.Likelihood` ends p(x | h_0). The
likelihoods and kinds of latent units are declared on their classes (`iwae_tf.declarations`).
"""
