"use strict";
(() => {
  const root = document.getElementById("viewer");
  const slide = JSON.parse(root.dataset.slide);
  const { width, height } = slide.layers.stain;
  const tiles = (name) => {
    const layer = slide.layers[name];
    const top = layer.present.length - 1;
    const bits = layer.present.map((text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0)));
    const across = layer.present.map((_, level) => Math.ceil(Math.ceil(layer.width / 2 ** level) / slide.tile));
    return {
      width: layer.width, height: layer.height, tileSize: slide.tile, tileOverlap: 0, minLevel: 0, maxLevel: top,
      getTileUrl: (level, x, y) => `tiles/${name}/${top - level}/${x}_${y}.${layer.suffix}`,
      tileExists: (level, x, y) => { // a tile that is nothing but background was not written, and is not asked for
        if (level < 0 || level > top) return false;
        const place = y * across[top - level] + x;
        return (bits[top - level][place >> 3] & (128 >> (place & 7))) !== 0;
      },
    };
  };
  root.hidden = false;
  document.getElementById("still").hidden = true;

  const coarse = matchMedia("(pointer: coarse)").matches;
  const views = ["source", "stain"].filter((name) => name in slide.layers).map((name) => {
    const element = document.getElementById(`deep-${name}`);
    const viewer = OpenSeadragon({
      element, tileSources: tiles(name), drawer: "canvas", showNavigationControl: false,
      showNavigator: name === "stain" && slide.navigator, navigatorPosition: "BOTTOM_RIGHT", navigatorSizeRatio: 0.18,
      navigatorBackground: element.style.backgroundColor, navigatorOpacity: 1, navigatorAutoFade: false,
      visibilityRatio: 0.5, minZoomImageRatio: 0.6, maxZoomPixelRatio: 8, animationTime: 0.5, springStiffness: 9,
      zoomPerScroll: 1.3, immediateRender: false, placeholderFillStyle: null, smoothTileEdgesMinZoom: Infinity,
      cooperativeGestures: coarse, // else a finger that scrolls the page past the pictures would move them
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { pinchRotate: false, flickEnabled: true },
    });
    viewer.addHandler("canvas-key", (event) => { // a slide that is turned or mirrored has other places
      if (["KeyR", "KeyF"].includes(event.originalEvent.code)) event.preventDefaultAction = true;
    });
    return { name, element, viewer };
  });
  const { viewer } = views[0];

  // where one goes, the other goes
  let following = false;
  const follow = (from, move) => {
    if (following) return;
    following = true;
    for (const other of views) if (other !== from) move(other.viewer.viewport);
    following = false;
  };
  for (const view of views) {
    view.viewer.addHandler("zoom", ({ zoom, refPoint, immediately }) =>
      follow(view, (viewport) => viewport.zoomTo(zoom, refPoint, immediately)));
    view.viewer.addHandler("pan", ({ center, immediately }) =>
      follow(view, (viewport) => viewport.panTo(center, immediately)));
    view.viewer.addHandler("animation-finish", () => follow(view, (viewport) => {
      viewport.zoomTo(view.viewer.viewport.getZoom(), null, true);
      viewport.panTo(view.viewer.viewport.getCenter(), true);
    }));
  }

  // lengths and places
  const told = (value) => value.toLocaleString("en-GB", { maximumFractionDigits: value < 10000 ? 1 : 0 });
  const rough = (value) => Number(value.toPrecision(2)); // of an objective: 10 µm by its magnification, as scanners count
  const where = document.getElementById("where");
  const whole = width * slide.um; // µm across
  let pointer = null; // in the view's own units
  const screenUm = () => whole / (viewer.viewport.getContainerSize().x * viewer.viewport.getZoom(true));
  const show = () => {
    const um = screenUm();
    const most = Math.min(200, 0.3 * viewer.viewport.getContainerSize().x) * um;
    const decade = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].find((step) => step * decade <= most) * decade;
    for (const { element } of views) {
      const scale = element.querySelector(".scale");
      scale.firstElementChild.style.width = `${length / um}px`;
      scale.lastElementChild.textContent = length >= 1000 ? `${told(length / 1000)} mm` : `${told(length)} µm`;
    }
    const at = pointer || viewer.viewport.getCenter(true);
    const x = at.x * whole, y = at.y * whole;
    where.textContent = `${pointer ? "pointer" : "centre"}: x ${told(x)} µm, y ${told(y)} µm (pixel ` +
      `${Math.floor(at.x * width)}, ${Math.floor(at.y * width)}) · ${rough(um)} µm a screen pixel, as ${rough(10 / um)}×`;
  };
  viewer.addHandler("update-viewport", show);
  for (const { element, viewer: own } of views) {
    const crosses = views.filter((view) => view.element !== element).map((view) => view.element.querySelector(".cross"));
    element.addEventListener("pointermove", (event) => {
      const box = element.getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      pointer = own.viewport.pointFromPixel(new OpenSeadragon.Point(x, y), true);
      for (const cross of crosses) {
        cross.hidden = event.pointerType === "touch";
        cross.style.left = `${x}px`;
        cross.style.top = `${y}px`;
      }
      show();
    });
    element.addEventListener("pointerleave", () => {
      pointer = null;
      for (const cross of crosses) cross.hidden = true;
      show();
    });
  }

  // #x,y,w: the centre and how much is seen across, µm
  const shown = () => {
    const { x, y } = viewer.viewport.getCenter();
    const across = whole / viewer.viewport.getZoom();
    return `#${[x * whole, y * whole, across].map((value) => value.toFixed(1)).join(",")}`;
  };
  const go = (x, y, across, immediately) => {
    const { viewport } = viewer;
    if (across > 0) viewport.zoomTo(Math.min(whole / across, viewport.getMaxZoom()), null, immediately);
    viewport.panTo(new OpenSeadragon.Point(x / whole, y / whole), immediately);
    viewport.applyConstraints(immediately);
  };
  const place = () => location.hash.slice(1).split(",").map((text) => (text === "" ? NaN : Number(text)));
  const goToHash = () => {
    const [x, y, across] = place();
    if (Number.isFinite(x) && Number.isFinite(y)) go(x, y, across, true);
  };
  window.addEventListener("hashchange", () => {
    goToHash();
    if (Number.isFinite(place()[1])) root.scrollIntoView({ block: "nearest" });
  });
  const open = views.map(({ viewer: own }) => new Promise((done) => { own.addOnceHandler("open", done); }));
  Promise.all(open).then(() => {
    goToHash();
    viewer.addHandler("animation-finish", () => {
      try { history.replaceState(null, "", shown()); } catch { /* a browser that does not let a file do that */ }
    });
  });
  document.getElementById("places").addEventListener("submit", (event) => {
    event.preventDefault();
    const [x, y] = ["go-x", "go-y"].map((id) => {
      const text = document.getElementById(id).value.replace(/[\s,]/g, "");
      return text === "" ? NaN : Number(text);
    });
    if (Number.isFinite(x) && Number.isFinite(y)) go(x, y, Math.min(whole / viewer.viewport.getZoom(), 1000), false);
  });

  // buttons and keys
  const zoomBy = (factor) => { viewer.viewport.zoomBy(factor); viewer.viewport.applyConstraints(); };
  const exact = () => {
    viewer.viewport.zoomTo(viewer.viewport.imageToViewportZoom(1));
    viewer.viewport.applyConstraints();
  };
  for (const button of root.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zoomBy(Number(button.dataset.zoom)));
  }
  document.getElementById("whole").addEventListener("click", () => viewer.viewport.goHome());
  document.getElementById("exact").addEventListener("click", exact);
  const full = document.getElementById("full");
  if (!root.requestFullscreen) full.hidden = true;
  full.addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else root.requestFullscreen();
  });
  document.addEventListener("fullscreenchange", () => {
    full.textContent = document.fullscreenElement ? "leave" : "fill screen";
    for (const { viewer: own } of views) own.setCooperativeGestures(coarse && !document.fullscreenElement);
  });

  // the expected error over the stain
  let error = null;
  const slider = document.getElementById("error");
  const setError = (share) => {
    slider.value = String(Math.round(100 * share));
    slider.setAttribute("aria-valuetext", `${slider.value} %`);
    if (error) error.setOpacity(share);
  };
  if (slider) {
    const { error: layer } = slide.layers;
    views.at(-1).viewer.addTiledImage({
      tileSource: tiles("error"), x: 0, y: 0, width: (layer.width * 2 ** slide.coarser) / width, opacity: 0,
      success: ({ item }) => { error = item; setError(Number(slider.value) / 100); },
    });
    slider.addEventListener("input", () => setError(Number(slider.value) / 100));
  }
  for (const { viewer: own } of views) {
    own.addHandler("canvas-key", (event) => {
      const { key, ctrlKey, metaKey, altKey } = event.originalEvent;
      if (ctrlKey || metaKey || altKey) return;
      if (key === "1") exact();
      if (key === "e" && slider) setError(Number(slider.value) > 0 ? 0 : 0.7);
    });
  }
})();
