"""From an image to its instances: a model made ready, its outputs, and their clusters."""

import contextlib
import sys
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import tensorflow as tf
from joblib import cpu_count

import utils
from clustering import BANDWIDTH, THRESHOLD, find_instances
from datagenerator import STRETCH, TILE, View, enlarge, network_size, normalize, prepare_image, view_of, zoomed_size
from export.folding import fold_batch_norm
from export.formats import require_finite
from pipeline.lite import LiteModel, load_lite_model
from pipeline.tiles import join_tiles, number_by_size, tile_starts
from run.command import UserError, bounded

MIN_PIXELS = 10  # of an instance in crops, at the image's own scale


def has_gpu():
    return bool(tf.config.list_physical_devices("GPU"))


def use_cores():
    """Give every core an image of its own; returns their number. Two cores for an operation are 1.4 times as fast."""
    if not has_gpu():
        with contextlib.suppress(RuntimeError):  # TensorFlow has started already
            tf.config.threading.set_intra_op_parallelism_threads(1)
    return cpu_count()


@dataclass(frozen=True)
class Settings:
    """How instances are found; see `clustering.find_instances`."""

    bandwidth: float = BANDWIDTH
    threshold: float = THRESHOLD
    method: str = "fast"
    confidence: float = 0.0
    image_confidence: float = 0.0


def add_flags(add):
    """Add those of `read_settings` by a parser's or group's `add_argument`."""
    add("--bandwidth", type=bounded(float, above=0), help="of the mean shift; default the model's")
    add("--threshold", type=bounded(float, above=0, below=1), help="probability of a lane pixel; default the model's")
    mean = "mean probability that an instance needs; default the model's, with its limit for an image's best"
    add("--confidence", type=bounded(float, least=0, below=1), metavar="P", help=mean)
    add("--cluster", choices=("fast", "sklearn"), help="mean shift of clustering.py, the default, or scikit-learn")


def read_settings(args):
    """The `Settings` by the flags, else the config of `--modeldir`; UserError if that is wrong."""
    limits = (args.confidence,)
    if args.confidence is None:
        limits = [utils.read_confidence(args.modeldir, name) for name in ("confidence", "image_confidence")]
    return Settings(
        utils.read_bandwidth(args.modeldir) if args.bandwidth is None else args.bandwidth,
        utils.read_threshold(args.modeldir) if args.threshold is None else args.threshold,
        args.cluster or "fast",
        *limits,
    )


class Network:
    """A model made ready for images of any size."""

    min_width = 1  # in models that don't say it

    def __init__(self, model, size=None, view=STRETCH, jit=False, min_pixels=None, min_width=1):
        """Take a model, whose graph is compiled with the first image.

        Args:
            model: keras.Model of `enet.build_enet`, of open size if `view` isn't "stretch"; or a LiteModel.
            size: (H, W) at which it sees images; default that of its input.
            view: `datagenerator.View`.
            jit: compile it with XLA, for every size anew.
            min_pixels: of an instance and of each of its pieces; None for lanes, which may be in pieces.
            min_width: as in `merge_pieces`, not for lanes.
        """
        self.outputs, self.view = tuple(model.output), view
        self.classes = {}  # {name: whether it is stuff} in the order of the output "classes"
        self.size = tuple(size or model.input_shape[1:3])
        self.tile = tuple(TILE * side for side in self.size)
        self.min_pixels, self.min_width = min_pixels, min_width
        graph = tf.function(
            lambda batch: model(batch, training=False), jit_compile=jit or None, reduce_retracing=not jit
        )
        self._run = model if isinstance(model, LiteModel) else graph

    def predict(self, image):
        """Outputs of the network of one image, (h, w, 3) uint8 RGB; UserError if they are not finite.

        {"embedding": (H, W, D), "semantic": (H, W, 1), "classes": (H, W, C)} float32, of its heads, at the size that it
        sees; with the view "crop" that is (h, w) enlarged.
        """
        return self.predict_part(normalize(image) if self.view.normalize else image)

    def predict_part(self, image):
        """As `predict`, of an image or a part of one, normalized where that is wanted."""
        kind = self.view.kind
        image = enlarge(image, self.view.zoom)
        outputs = self._outputs(prepare_image(image, network_size(image.shape, self.size, kind), kind))
        if kind == "crop":
            outputs = {name: value[: image.shape[0], : image.shape[1]] for name, value in outputs.items()}
        require_finite(outputs)
        return outputs

    def find_instances(self, outputs, settings=Settings()):
        """Label map (H, W) int32 of outputs of `predict`; zeros without settings."""
        if settings is None:
            return np.zeros(outputs["embedding"].shape[:2], np.int32)
        fewest = MIN_PIXELS * self.view.zoom**2 if self.view.kind == "crop" else None
        fewest = 0 if self.min_pixels else fewest  # as what is small is merged
        label_map = find_instances(outputs, **asdict(settings), min_pixels=fewest)
        return merge_pieces(label_map, self.min_pixels, self.min_width) if self.min_pixels else label_map

    def needs_tiles(self, shape):
        """Whether an image of `shape` (h, w, ...) is too large to go through the network at once."""
        large = zoomed_size(shape, self.view.zoom)
        return self.view.kind == "crop" and any(side > tile for side, tile in zip(large, self.tile, strict=True))

    def _outputs(self, image):
        return {name: np.asarray(value[0]) for name, value in self._run(image[None]).items()}


def merge_pieces(label_map, min_pixels, min_width=1):
    """Label map (H, W) int32, by size, that gives small and thin pieces to what they touch most.

    Small is one of fewer than `min_pixels`, thin one in which no square of `min_width` pixels fits: a seam, where the
    embeddings of two instances mix and mean shift finds clusters of their own.
    """
    merged, square = label_map.copy(), np.ones((min_width, min_width), np.uint8)
    for identity in range(1, int(label_map.max(initial=0)) + 1):
        part = merged[_with_border(*cv2.boundingRect(np.uint8(merged == identity)))]
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(np.uint8(part == identity))
        for piece, (*box, area) in enumerate(stats.tolist()):
            if not piece:
                continue
            window = _with_border(*box)
            inside = np.uint8(pieces[window] == piece)
            if area < min_pixels or not cv2.erode(inside, square, borderType=cv2.BORDER_CONSTANT, borderValue=0).any():
                around = cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside
                part[window][inside > 0] = np.bincount(part[window][around], minlength=1).argmax()
    return number_by_size(merged)


def _with_border(left, top, width, height):
    return np.s_[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1]


def load_network(modeldir, image_size=None, jit=False, threads=None, int8=False):
    """The `Network` of a model folder, folded if it can be, compiled and warm; says on stderr what runs it.

    Without a GPU that is XNNPACK, unless batch norm takes the statistics of each image; else TensorFlow's graph. Raises
    UserError for a model that can't be built or run.

    Args:
        modeldir: path that `utils.load_model` accepts.
        image_size: (H, W) at which to see every image, default as the model was trained.
        jit: compile TensorFlow's graph with XLA, and run that.
        threads: of XNNPACK that share an image; default all cores.
        int8: run the network of `python -m export --int8`.
    """
    try:
        folder = utils.model_folder(modeldir)
        network, config = utils.read_network(folder), utils.read_saved_config(folder)
        view = view_of(config, folder)
        view = View(normalize=view.normalize) if image_size else view
        foldable = not network.get("image_statistics")
        model = None
        if int8 or foldable and not jit and not has_gpu():
            model = load_lite_model(folder, threads or cpu_count(), int8)
        print(f"network: {folder}, {'XNNPACK' if model else 'TensorFlow graph'}{', int8' * int8}", file=sys.stderr)
        if model is None:
            model = utils.load_model(folder, image_size if view.kind == "stretch" else (None, None))
            model = fold_batch_norm(model) if foldable else model
        size, min_pixels = image_size or network["input_shape"][:2], config.get("min_pixels")
        result = Network(model, size, view, jit, min_pixels and float(min_pixels), int(config.get("min_width", 1)))
        result.classes = utils.read_classes(folder)
        result._outputs(np.zeros((*size, 3), np.float32))
    except (UserError, OSError):
        raise
    except (ValueError, TypeError, RecursionError, tf.errors.OpError) as error:  # a config that makes no sense
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--modeldir {modeldir}: its network can't be built or run ({reason}); restore it or name another"
        ) from None
    return result


def require_head(network, args, **more):
    """Raise UserError if the network has no semantic head and a flag that needs it is not None."""
    for flag, value in {"threshold": args.threshold, "confidence": args.confidence, **more}.items():
        if value is not None and "semantic" not in network.outputs:
            raise UserError(f"--{flag}: found a model without semantic head in {args.modeldir}; leave it out")


def segment_outputs(network, image, settings=Settings()):
    """Outputs and label map, (H, W) int32, 0 = background, of one image, (h, w, 3) uint8 RGB of any size.

    Both of `Network.predict` and `find_instances`, or, at the image's own size, of `segment_tiles`.
    """
    if network.needs_tiles(image.shape):
        return segment_tiles(network, image, settings)
    outputs = network.predict(image)
    return outputs, network.find_instances(outputs, settings)


def segment_tiles(network, image, settings=Settings()):
    """As `segment_outputs`, of an image in overlapping tiles; outputs are (h, w, ...) float16, but no embedding."""
    depths = {"semantic": 1, "classes": len(network.classes)}
    kept = {name: np.zeros((*image.shape[:2], depths[name]), np.float16) for name in depths if name in network.outputs}

    def tiles():
        normalized = normalize(image) if network.view.normalize else image
        tile = [int(side / network.view.zoom) for side in network.tile]  # enlarged it is no larger than the network's
        rows, columns = (tile_starts(side, of, of // 4) for side, of in zip(image.shape[:2], tile, strict=True))
        for top in rows:
            for left in columns:
                place = np.s_[top : top + tile[0], left : left + tile[1]]
                outputs, size = network.predict_part(normalized[place]), normalized[place].shape[1::-1]
                for name, values in kept.items():
                    part = cv2.resize(outputs[name], size, interpolation=cv2.INTER_LINEAR)
                    values[place] = part.reshape(values[place].shape)
                label_map = network.find_instances(outputs, settings)
                yield top, left, cv2.resize(label_map, size, interpolation=cv2.INTER_NEAREST_EXACT)

    return kept, join_tiles(tiles(), image.shape[:2])
