"""Whether a loss rises as its gradient says."""

from support import grads, norm, np, want

F32 = 2.0**-24  # largest relative error of one rounding


def loss_follows_gradient(probe, out, h, again):
    """A step of length h along the gradient of `out`, and one back: the total loss changes by as much as the gradient says.
    `again` runs the probe with `weights_changed`."""
    grad = {k: g.astype(np.float64) for k, g in grads(out).items()}
    length, losses, steps = norm(grad.values()), [], []
    for sign in (1, -1):
        moved = {k: (probe.weights[k] + sign * h * g / length).astype(np.float32) for k, g in grad.items()}
        steps.append({k: moved[k].astype(np.float64) - probe.weights[k] for k in moved})
        losses.append(float(again(weights_changed=moved)["loss.total"].item()))
    expected = sum(float((grad[k] * (steps[0][k] - steps[1][k])).sum()) for k in grad)
    # The losses carry a rounding each and some of the arithmetic before it; the cubic term of a central difference is
    # h^2 / 6 of a third derivative along the unit direction, at most some hundred times the slope.
    limit = 8 * F32 * abs(losses[0]) + 64 * h**2 * abs(expected)
    want(abs(losses[0] - losses[1] - expected) <= limit, f"the loss changes by {losses[0] - losses[1]:.8f}, not {expected:.8f}")
