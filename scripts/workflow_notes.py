"""The notes inside the example graphs. A line break inside a paragraph or list item is only for this file."""

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
DOWNLOAD = f"https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}"
REFEREE = "blip2_referee.safetensors"

DEMO_ABOUT = """
One prompt and one seed, four ways to a picture, with small models that come with the pack and know one world: one or
two coloured shapes. It needs no download and no graphics card: press **Run**.

- **Referee Can Play** (green): a referee, here a small BLIP-2 that reads the prompt, pulls the picture towards
the prompt; the diffusion model keeps it natural. Random views and jumps back to
the running average keep the referee honest.
- **Plain sampling**: clean shapes, often with the wrong colours or forms.
- **SDS alone**: only the diffusion model pulls. Natural, but no more obedient.
- **Inversion alone**: only the referee pulls, and it sees the bare picture. Specks please it that say nothing to us.

Paper: [Referee Can Play, ICML 2024](https://arxiv.org/abs/2402.16305).
"""
DEMO_TURN = """
- **The prompt**: one or two objects, *a [colour] [shape]*, joined by *and*; for example *a yellow triangle and a
purple cross*.
- **The seed**: another start for all four.
- **Random views, preset**: *none* brings the specks back. More views (*count*) make a cleaner picture and slower
steps.
- **The prior, weight**: higher is more natural and obeys less.
- **lr** of Referee Optimizer: how far the latent moves in a step. These models like 0.2, Stable Diffusion the paper's
1.0.
- **Back to the average**: unplug it to see what it is good for.
"""
PAPER_ABOUT = """
*Referee Can Play* with the paper's numbers: BLIP-2 reads the prompt and pulls the latent towards it, score
distillation (SDS) from Stable Diffusion 1.5 keeps the picture natural. 160 steps, 30 random views a step, CFG 30.

- **Memory** runs out: lower *views_at_once* of Referee Optimizer. The result stays the same up to rounding.
- **Time**: fewer views (*count* of Augmentation Regularizer), for example 10, are faster and a little less clean.
- **Obedience against nature**: a higher *weight* of SDS Guidance is more natural and obeys less.
- The authors' code gives the diffusion model *A photo exactly contains* and then the prompt; the paper gives it the
prompt alone. To try the former, unplug the text of **The prompt, for the diffusion model** and type it there. What
else the code does differently is the preset *reference code* of Referee Optimizer and of Augmentation Regularizer.
"""
INVERSION_ABOUT = """
The referee alone: the latent moves until BLIP-2 agrees with the prompt, and only the random views that it judges keep
the picture in bounds. Of Stable Diffusion 1.5 only the VAE is used.

- **Random views, preset**: *none* shows why they are needed: the loss falls fast, the picture is specks.
- **count**: more views, cleaner shapes, slower steps.
- **lr** and **noise**: smaller is calmer and needs more steps.
- *tail* has no effect here and *w1* hardly any: both are about the balance with a prior.
"""
SDS_ABOUT = """
The prior alone: score distillation (SDS) moves the latent towards what Stable Diffusion 1.5 takes for the prompt. No
referee is loaded. Compare the result with that of *paper_sd15_blip2*, which adds the referee.

- **cfg**: SDS needs high guidance. Lower is softer, much higher glares.
- **weight** and **lr**: how fast the latent moves.
- **noise**: a little helps the search, much leaves grain.
"""
SAMPLER_ABOUT = """
The same method as *paper_sd15_blip2* from parts: **Referee Sampler** is a SAMPLER, and the guider is the prior. Plug
in other guiders, conditioning or noise as with any sampler.

- The **number of steps** is BasicScheduler's. Its noise levels are not used: SDS draws its own.
- The **CFG scale** of SDS is CFG Guider's.
- **weight** of Referee Sampler: higher is more natural and obeys less.
- Curves and filmstrip come only from Referee Optimizer.
"""
EDIT_ABOUT = """
Changes the masked part of a picture until the referee sees the whole prompt in it.

1. Load a picture, right-click it, choose **Open in MaskEditor** and paint over what may change; in *example.png* a
piece of sky, for the balloon. **Without a mask there is nothing to change, and an error says so.**
2. Describe the whole picture as it should become, not only the new part.

What to turn:

- **t_max** of SDS Guidance, here 500: lower keeps more of what was there, 949 starts afresh.
- **lr**, here 0.2 and not 1.0, and **noise**, here 0.04: small steps away from the picture. Raise both for more
change.
- To let the whole picture change, connect VAE Encode to *latent_image* directly.
"""
BEST_ABOUT = """
*Let it paint several, go on with the best.* KSampler paints four pictures, **Score Images** puts them in order, and the best
one goes on to **Referee Optimizer**, which corrects what is still wrong: with this prompt and seed both objects of all four are
orange, and one becomes red. It needs no download: press **Run**.

- The referee judges by two sentences, the prompt and the same the other way round, added by **Combine Referee Losses**.
- **batch_size** of the empty latent: more pictures, better chances for the best.
- **keep** of Score Images: how many go on. The optimizer takes a batch as well.
- **t_max** of SDS Guidance, here 700: lower keeps more of the picture, 949 starts afresh.
"""
FILES = f"- **models/checkpoints/{CHECKPOINT}**: [download]({DOWNLOAD}), 2 GB."
REFEREE_FILE = f"""
- **models/referee/{REFEREE}**: BLIP-2, put together once by the node **Convert Referee**; the pack's README says which
files it takes.
"""
REFRESH = "\n\nThen press **R** in the editor, and the loaders list them."
