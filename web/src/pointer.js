// Mouse, fingers and keys on the map: pan, zoom, lasso, open.

/**
 * @param map the ImageMap
 * @param on {open(row), lasso(rows, add), hover(row, x, y), select(row), lassoing()}
 */
export function steer(map, on) {
  const { canvas, camera } = map;
  const fingers = new Map();
  let moved = 0, lasso = null;
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, point(event));
    moved = 0;
    if (fingers.size === 1 && (event.shiftKey || on.lassoing())) lasso = [point(event)];
    else lasso = null;
    map.cross = false;
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = point(event), before = fingers.get(event.pointerId);
    if (!before) return on.hover(map.at(...now), ...now);
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (lasso) {
      lasso.push(now);
      map.outline = lasso;
    } else if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const span = (from) => Math.hypot(from[0] - other[0], from[1] - other[1]);
      camera.zoom(span(now) / Math.max(1, span(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      camera.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    } else if (moved > 3) camera.pan(now[0] - before[0], now[1] - before[1]);
    fingers.set(event.pointerId, now);
    on.hover(-1);
    map.draw();
  });

  const release = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    const outline = lasso;
    lasso = null;
    map.outline = [];
    if (outline && moved > 12) on.lasso(map.within(outline), event.ctrlKey || event.metaKey);
    else if (event.type === "pointerup" && moved <= 3 && !fingers.size) {
      const row = map.at(...point(event), event.pointerType === "touch" ? 18 : 9);
      if (event.ctrlKey || event.metaKey) on.select(row);
      else on.open(row);
    }
    map.draw();
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => on.hover(-1));

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
      camera.zoom(Math.exp(-Math.max(-240, Math.min(240, pixels)) / 300), ...point(event));
      on.hover(-1);
      map.draw();
    },
    { passive: false },
  );

  const step = 80;
  const keys = {
    ArrowLeft: () => camera.pan(step, 0),
    ArrowRight: () => camera.pan(-step, 0),
    ArrowUp: () => camera.pan(0, step),
    ArrowDown: () => camera.pan(0, -step),
    "+": () => camera.zoom(1.5),
    "=": () => camera.zoom(1.5),
    "-": () => camera.zoom(1 / 1.5),
    0: () => camera.fit(camera.width, camera.height),
    Enter: () => on.open(map.at(camera.width / 2, camera.height / 2, 200)),
    " ": () => on.select(map.at(camera.width / 2, camera.height / 2, 200)),
  };
  canvas.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
    if (!act) return;
    event.preventDefault();
    map.cross = true;
    act();
    map.draw();
  });
  canvas.addEventListener("blur", () => {
    map.cross = false;
    map.draw();
  });
}
