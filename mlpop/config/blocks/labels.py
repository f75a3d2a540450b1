"""Names of numbers of the pulsar simulator that theta may have."""

SWEEPABLE: tuple[str, ...] = (
    "P_initial_mean",
    "P_initial_sigma",
    "P_initial_log10_mean",
    "P_initial_log10_sigma",
    "P_initial_weibull_shape",
    "P_initial_weibull_scale",
    "B_initial_log10_mean",
    "B_initial_log10_sigma",
    "B_initial_log10_min",
    "B_initial_log10_max",
    "B_initial_log10_mean_comp1",
    "B_initial_log10_sigma_comp1",
    "B_initial_log10_mean_comp2",
    "B_initial_log10_sigma_comp2",
    "B_initial_log10_weight_comp1",
    "B_initial_log10_rise_mean",
    "B_initial_log10_rise_sigma",
    "B_initial_log10_decay_mean",
    "B_initial_log10_decay_sigma",
    "B_initial_log10_slope",
    "a_late",
    "L_radio_log10_mean",
    "epsilon_L",
    "L_radio_log10_sigma",
    "mean_spectral_index",
    "std_spectral_index",
    "B_millisec_mean",
    "B_millisec_sigma",
    "death_BP2_log10",
    "death_Edot_log10_mean",
    "death_Edot_log10_sigma",
)
"""Labels of theta that the block `population` takes; some are not in the reference's tool."""

DYNAMICS_SWEEPABLE: tuple[str, ...] = ("h_c", "sigma_k", "vk_c")
"""Labels of theta that belong to the stars' births and orbits."""
