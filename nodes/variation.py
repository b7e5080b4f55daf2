"""A node that varies a prompt, for models whose seeds hardly differ."""

from comfy_api.latest import io

from .sockets import CATEGORY


class RefereeVariation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeVariation",
            display_name="Prompt Variation",
            category=CATEGORY,
            description="Adds noise to an encoded prompt in the first part of the sampling, for distilled models that "
            "draw nearly the same picture for every seed. Repeats what Search Until It Obeys found with 'variation'.",
            search_aliases=[
                "seed variance",
                "conditioning noise",
                "more variety",
                "same image every seed",
                "diversity",
            ],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The encoded positive prompt."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Another seed, another variation. To repeat a find of the search: the seed it names, here "
                    "and in the sampler.",
                ),
                io.Float.Input(
                    "variation",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="The noise, as a share of the mean size of the prompt's numbers. Higher strays further "
                    "from the prompt; 0 leaves it as it is.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Up to where in the sampling the noise is there. Later changes more than the layout. The "
                    "search uses 0.3.",
                ),
            ],
            outputs=[io.Conditioning.Output("conditioning", tooltip="For the positive input of any sampler.")],
        )

    @classmethod
    def execute(cls, conditioning: list, seed: int, variation: float, end_percent: float) -> io.NodeOutput:
        from .bridge.sampling.variation import vary_conditioning

        return io.NodeOutput(vary_conditioning(conditioning, seed, variation, end_percent))
