"""Figures of the simulated street: a drive, and one moment of it as every sensor sees it."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from beamkd.report.figures import clean_axes
from beamkd.sim import RAYS, Boxes, SimulatedDrive, Street, cast_rays, motion_masks
from beamkd.sim.radar import ANGLES, TESTBED

BEFORE = 8
"""m, least and most range in the picture of a radar map are so much less and more than the served car's."""


def draw_drive(drive: SimulatedDrive, street: Street, path: Path) -> None:
    """One drive: from above, as the LiDAR sees it, and as the beams do."""
    frames = int(drive.traffic.frames)
    middle = middle_of(drive)
    figure = Figure(figsize=(16, 5.6), layout="constrained")  # needs no display
    above, lidar, beams = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
    _draw_street(above, drive, street, middle)
    above.set(title=f"From above, frame {middle}, LiDAR rays (every 4th)")
    _draw_lidar(lidar, np.asarray(drive.sensors["lidar"][:frames]), street, middle)
    _draw_beams(beams, np.asarray(drive.power[:frames]), street, middle)
    figure.suptitle("One simulated drive past a 60 GHz base station with a LiDAR", fontsize=13)
    figure.savefig(path, dpi=110)


def middle_of(drive: SimulatedDrive) -> int:
    """The frame in which the served car passes the base station."""
    return int(np.abs(np.asarray(drive.traffic.antenna[: int(drive.traffic.frames), 1])).argmin())


def draw_moment(
    drive: SimulatedDrive, street: Street, frame: int, probabilities: Mapping[str, np.ndarray], path: Path
) -> None:
    """One moment of a drive, as each sensor sees it, with the beams that it asks for and those that networks name.

    Args:
      drive: with the sensors 'lidar', 'radar' and 'camera'.
      street: where it goes.
      frame: the moment.
      probabilities: of networks by name, [J + 1, M], of the beams in this slot and those ahead.
      path: of the PNG.
    """
    figure = Figure(figsize=(15, 8.6), layout="constrained")
    above, lidar, radar, camera, power, ahead = figure.subplots(2, 3).ravel()
    _draw_street(above, drive, street, frame)
    above.set(title="From above, with LiDAR rays (every 4th)")
    _draw_scan(lidar, np.asarray(drive.sensors["lidar"][frame]))
    _draw_map(radar, np.asarray(drive.sensors["radar"][frame]), np.asarray(drive.traffic.antenna[frame]))
    _draw_picture(camera, np.asarray(drive.sensors["camera"][frame - 1 : frame + 1]))
    _draw_powers(power, np.asarray(drive.power[frame]), probabilities)
    _draw_ahead(ahead, np.asarray(drive.power[frame:]), probabilities)
    figure.suptitle("One moment: a car passes the base station. Which of its 64 beams will serve it?", fontsize=14)
    figure.savefig(path, dpi=75)


def _draw_street(axes: Axes, drive: SimulatedDrive, street: Street, frame: int) -> None:
    """The street from above in one frame: the base station looks up, the left of the road is on the left."""
    vehicles = jax.tree.map(lambda x: x[frame], drive.traffic.vehicles)
    exact = np.asarray(cast_rays(RAYS, vehicles, street.walls))
    reach = np.where(np.isfinite(exact), exact, 17.0)
    for bearing, length, hits in zip(RAYS[::4], reach[::4], np.isfinite(exact)[::4], strict=True):
        line = axes.plot([0, length * np.sin(bearing)], [0, length * np.cos(bearing)], lw=0.7, zorder=1)
        line[0].set_color("tab:orange" if hits else "0.87")
    for wall in np.stack([street.walls.start, street.walls.end], 1):
        axes.plot(wall[:, 1], wall[:, 0], color="saddlebrown", lw=5, solid_capstyle="butt", label="building front")
    for k in range(len(vehicles.heading)):
        name = "served car" if k == 0 else ("other vehicles" if k == 1 else None)
        outline = _outline(jax.tree.map(lambda x, k=k: np.asarray(x[k]), vehicles))
        axes.fill(outline[:, 1], outline[:, 0], color="tab:blue" if k == 0 else "0.45", label=name, zorder=3)
    track = np.asarray(drive.traffic.antenna[: int(drive.traffic.frames)])
    axes.plot(track[:, 1], track[:, 0], ".-", ms=3, lw=0.6, color="navy", label="its antenna", zorder=4)
    onwards = np.array([1.2 * np.sign(street.end - street.start), 0])
    axes.annotate("", track[-1, ::-1] + onwards, track[-1, ::-1], arrowprops={"arrowstyle": "->", "color": "navy"})
    axes.plot(0, 0, "^", ms=11, color="tab:red", label="base station", zorder=5)
    for edge in (-street.sector, street.sector):
        label = "sector of the beams" if edge > 0 else None
        angle = np.deg2rad(street.boresight + edge)
        axes.plot([0, 17 * np.sin(angle)], [0, 17 * np.cos(angle)], "--", color="tab:red", lw=1, label=label)
    axes.set(xlim=(14, -14), ylim=(-1.5, 23), xlabel="along the road, m", ylabel="across the road, m")
    axes.set_aspect("equal")
    axes.legend(loc="upper center", ncols=2, fontsize=8, framealpha=0.95)


def _outline(box: Boxes) -> np.ndarray:
    """Corners of one box, [4, 2] m."""
    cos, sin = np.cos(box.heading), np.sin(box.heading)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * box.size / 2
    return box.centre + corners @ np.array([(cos, sin), (-sin, cos)])


def _draw_lidar(axes: Axes, ranges: np.ndarray, street: Street, middle: int) -> None:
    shown = np.ma.masked_equal(ranges, 0)
    bearing = np.rad2deg(RAYS)
    image = axes.pcolormesh(np.arange(len(ranges)), bearing, shown.T, cmap="viridis_r", vmin=5, vmax=15)
    axes.axvline(middle, color="0.5", lw=0.8, ls=":")
    axes.set(xlabel=f"frame ({street.slot_seconds} s each)", ylabel="bearing from broadside, degrees")
    axes.set(title="LiDAR, what stands still removed (white: no return)")
    axes.figure.colorbar(image, ax=axes, label="range, m")


def _draw_beams(axes: Axes, power: np.ndarray, street: Street, middle: int) -> None:
    level = 10 * np.log10(power)
    image = axes.pcolormesh(np.arange(len(power)), np.arange(power.shape[1]), level.T, cmap="magma")
    axes.plot(np.arange(len(power)), power.argmax(1), "o", ms=3.5, mfc="none", color="cyan", label="best beam")
    axes.axvline(middle, color="0.7", lw=0.8, ls=":")
    axes.set(xlabel=f"frame ({street.slot_seconds} s each)", ylabel="beam", title="Receive power of each beam")
    axes.legend(loc="upper left", fontsize=8)
    axes.figure.colorbar(image, ax=axes, label="power, dB over a perfect beam's from mid-lane")


def _draw_scan(axes: Axes, ranges: np.ndarray) -> None:
    """Returns of one scan; bearings grow to the left, as on the street above."""
    hit = ranges > 0
    axes.plot(np.rad2deg(RAYS[hit]), ranges[hit], ".", color="tab:orange", ms=5)
    axes.set(xlim=(65, -65), ylim=(0, 25), xlabel="bearing from broadside, degrees", ylabel="range, m")
    axes.set(title="LiDAR: 216 rays, ranges of what moves")
    clean_axes(axes)


def _draw_map(axes: Axes, cells: np.ndarray, car: np.ndarray) -> None:
    """One range-angle map, from broadside to both sides."""
    sine = (np.arange(ANGLES) - ANGLES // 2) / (ANGLES // 2)
    farthest = int((np.hypot(*car) + BEFORE) / TESTBED.range_cell)
    shown = np.roll(cells, ANGLES // 2, axis=-1)[:farthest]
    ranges = np.arange(farthest) * TESTBED.range_cell
    axes.pcolormesh(np.rad2deg(np.arcsin(sine)), ranges, shown, cmap="magma")
    axes.plot(np.rad2deg(np.arctan2(car[1], car[0])), np.hypot(*car), "+", color="cyan", ms=12, label="car's antenna")
    axes.set(xlim=(65, -65), xlabel="bearing from broadside, degrees", ylabel="range, m")
    axes.set(title="Radar: range-angle map of what moves")
    axes.legend(loc="lower left", fontsize=8)


def _draw_picture(axes: Axes, gray: np.ndarray) -> None:
    """A frame, and in colour what moved since the one before."""
    moved = np.asarray(motion_masks(gray))[0]
    axes.imshow(gray[1], cmap="gray", vmin=0, vmax=255, aspect="auto", extent=(0, 960, 540, 0))
    shown = np.ma.masked_equal(moved, False)
    axes.imshow(shown, cmap=ListedColormap(["tab:red"]), alpha=0.55, aspect="auto", extent=(0, 960, 540, 0))
    axes.set(title="Camera, with its motion mask in red", xlabel="pixel", ylabel="pixel")


def _draw_powers(axes: Axes, power: np.ndarray, probabilities: Mapping[str, np.ndarray]) -> None:
    """Power of each beam, and above it what networks say of them now."""
    level = 10 * np.log10(power / power.max())
    best = int(power.argmax())
    colors = ["tab:cyan" if beam == best else "0.75" for beam in range(len(power))]
    lowest = level.min() - 1
    axes.bar(np.arange(len(power)), level - lowest, bottom=lowest, width=0.9, color=colors)
    axes.set(xlabel="beam", ylabel="power under the best, dB", title=f"Receive power: beam {best} is best")
    if probabilities:
        says = axes.twinx()
        for name, slots in probabilities.items():
            says.plot(slots[0], lw=1.6, label=f"{name}: beam {int(slots[0].argmax())}")
        says.set(ylim=(0, 1.6 * max(slots[0].max() for slots in probabilities.values())), ylabel="probability")
        says.legend(loc="upper right", fontsize=8)
    clean_axes(axes)


def _draw_ahead(axes: Axes, power: np.ndarray, probabilities: Mapping[str, np.ndarray]) -> None:
    """The best beams to come, and the five that each network would try."""
    best = power.argmax(-1)
    slots = max((len(slots) for slots in probabilities.values()), default=4)
    axes.plot(np.arange(slots), best[:slots], "s", ms=11, color="tab:cyan", label="the best one, seen later")
    for shift, (name, likely) in enumerate(probabilities.items()):
        for slot, shares in enumerate(likely):
            five = np.argsort(-shares)[:5]
            place = np.full(5, slot + 0.12 * (shift + 1))
            label = f"{name}: its five most likely" if slot == 0 else None
            axes.scatter(place, five, s=20 + 260 * shares[five], color=f"C{shift}", alpha=0.7, label=label)
    axes.set(xlabel="slots ahead (0.111 s each)", ylabel="beam", xticks=range(slots), title="The beams ahead")
    axes.margins(x=0.15, y=0.35)
    axes.legend(loc="best", fontsize=8)
    clean_axes(axes)
