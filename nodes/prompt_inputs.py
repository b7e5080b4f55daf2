"""Inputs of the nodes that learn tokens: how pictures are made, and how is learned."""

from comfy_api.latest import io

from .sockets import AugmentationSocket

SIDES = {"before and after": ("prefix", "suffix"), "before": ("prefix",), "after": ("suffix",)}
SCHEDULERS = ["simple", "sgm_uniform", "normal", "karras", "exponential", "ddim_uniform", "beta", "kl_optimal"]


def sampling_inputs() -> list:
    return [
        io.Latent.Input(
            "latent_image",
            tooltip="An empty latent: the size of the pictures. Its batch is how many noises each round learns from; "
            "more are steadier, slower, and take more memory.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Of the noises, the tokens and the views. Same seed, same tokens.",
        ),
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps of each picture, as in KSampler."),
        io.Float.Input(
            "cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="Classifier-free guidance, as in KSampler."
        ),
        io.Combo.Input(
            "sampler_name",
            options=["euler", "euler_ancestral"],
            tooltip="How pictures are made while learning. The tokens work under any sampler.",
        ),
        io.Combo.Input("scheduler", options=SCHEDULERS, tooltip="Spacing of the noise levels, as in KSampler."),
    ]


def learning_inputs(rounds: int) -> list:
    return [
        io.Int.Input(
            "rounds",
            default=rounds,
            min=1,
            max=10000,
            tooltip="Learning steps. Each makes the batch's pictures once, so 50 rounds cost more than 50 pictures.",
        ),
        io.Float.Input(
            "learning_rate",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.001,
            round=0.0001,
            tooltip="How far the tokens move in a round. The paper has 0.001; higher learns faster and less surely.",
        ),
        io.Int.Input(
            "last_steps",
            default=4,
            min=1,
            max=1000,
            tooltip="Through how many of the last sampling steps the gradient goes. More reach what the picture shows, "
            "fewer only its details; each adds the time of three steps and no memory. The paper: 2 of 50.",
        ),
        io.Int.Input(
            "noises",
            default=16,
            min=1,
            max=4096,
            tooltip="Different noises to learn from, a batch each round in turn. Few are learned by heart.",
        ),
        io.Int.Input(
            "other_noises",
            default=8,
            min=1,
            max=256,
            tooltip="Pictures of noises that are not learned from. By them the best tokens are chosen, and whether "
            "tokens are better than none. More choose more surely.",
        ),
        io.Int.Input(
            "check_every",
            default=10,
            min=1,
            max=1000,
            advanced=True,
            tooltip="Rounds between two looks at the other noises.",
        ),
        io.Float.Input(
            "stop_at",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Stop once the pictures of the other noises match with this probability in the mean. 0 never "
            "stops. Needs itm_weight above 0.",
        ),
        io.Int.Input(
            "patience",
            default=0,
            min=0,
            max=1000,
            advanced=True,
            tooltip="Stop after so many looks without a better one. 0 never stops.",
        ),
        io.Int.Input(
            "tokens",
            default=10,
            min=1,
            max=256,
            advanced=True,
            tooltip="Tokens on each side of the prompt. More say more and drown the prompt sooner.",
        ),
        io.Combo.Input("side", options=list(SIDES), advanced=True, tooltip="Where the tokens stand."),
        io.Int.Input(
            "rank",
            default=300,
            min=1,
            max=4096,
            advanced=True,
            tooltip="How many directions the tokens are made of, at most as many as a token has numbers. Fewer bind "
            "them more.",
        ),
        io.Float.Input(
            "conformity",
            default=0.001,
            min=0.0,
            max=1000.0,
            step=0.001,
            round=0.0001,
            advanced=True,
            tooltip="Pulls the mean of the longer prompt back to that of the prompt alone. Higher changes less.",
        ),
        AugmentationSocket.Input(
            "augmentation",
            optional=True,
            tooltip="The random views by which pictures are judged. Without it: 2 gentle ones.",
        ),
        io.Int.Input(
            "record_every",
            default=5,
            min=1,
            max=10000,
            advanced=True,
            tooltip="Rounds between the pictures that the history keeps.",
        ),
    ]
