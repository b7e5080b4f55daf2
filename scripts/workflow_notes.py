"""The names of the example graphs and the notes inside them.

ComfyUI's Templates dialog knows of a pack's graph only its file name: it is the title, the description, and what a
search looks through. The search hardly sees words that begin after the first 33 characters.

A line break inside a paragraph or list item of a note is only for this file.
"""

import json

from .server import PACK

SEARCH = "Referee - 1 Search until it obeys"
SEARCH_SD15 = "Referee - 2 Search, SD 1.5, BLIP-2"
SEARCH_SDXL = "Referee - 3 Search, SDXL, BLIP-2"
SEARCH_FLUX = "Referee - 4 Search, Flux, BLIP-2"
ASKED_SDXL = "Referee - 5 Search, SDXL, Qwen3-VL"
ASKED_Z_IMAGE = "Referee - 6 Search, Z-Image, Qwen3-VL"
ASKED_KREA = "Referee - 7 Search, Krea 2, Qwen3-VL"
GUIDED = "Referee - 8 Guided sampling"
GUIDED_SD15 = "Referee - 9 Guided, SD 1.5 with BLIP-2"
GUIDED_SDXL = "Referee - 10 Guided, SDXL with BLIP-2"
GUIDED_FLUX = "Referee - 11 Guided, Flux with BLIP-2"
GUIDED_QWEN = "Referee - 12 Guided, Qwen-Image, BLIP-2"
QUICK = "Referee - 13 Optimizer, quick demo"
BEST = "Referee - 14 Best of several, then corrected"
COMPARISON = "Referee - 15 Side by side, four ways to paint"
PAPER = "Referee - 16 SD 1.5 with BLIP-2 (paper)"
SAMPLER = "Referee - 17 SD 1.5, BLIP-2, SamplerCustomAdvanced"
EDIT = "Referee - 18 Inpaint, SD 1.5, BLIP-2"
INVERSION = "Referee - 19 Inversion alone, SD 1.5"
SDS = "Referee - 20 SDS alone, SD 1.5"
PROMPT = "Referee - 21 Optimize a prompt"
PROMPT_SD15 = "Referee - 22 Optimize a prompt, SD 1.5"
PROMPTS = "Referee - 23 Tokens for many prompts"
RESTORE = "Referee - 24 Restore a small picture"
UPSCALE_SD15 = "Referee - 25 Faithful upscale, SD 1.5"
INPAINT_SD15 = "Referee - 26 Faithful inpaint, SD 1.5"
DEBLUR_SD15 = "Referee - 27 Faithful deblur, SD 1.5"
WITHOUT_DOWNLOADS = (SEARCH, GUIDED, QUICK, BEST, COMPARISON, PROMPT, PROMPTS, RESTORE)


def template(name: str, suffix: str = ".json"):
    """The file of an example graph, or of the picture beside it."""
    return PACK / "workflows" / f"{name}{suffix}"


def graph(name: str) -> dict:
    """An example graph, in the UI's format."""
    return json.loads(template(name).read_text(encoding="utf-8"))


QUICK_ABOUT = """
Press **Run**: no download, no graphics card. Two pictures of one prompt and one seed:

- **Result**: *Referee Optimizer*. A referee reads the prompt and pulls the picture towards it; the diffusion model
keeps it natural.
- **To compare**: the same model with *KSampler*, at settings that suit it.

These small models know coloured shapes: *a red circle, a blue square and a green cross*, *a red circle to the left of
a blue square*, *three green crosses*. KSampler alone is wrong with this prompt and most seeds. It would need several
tries: see *1 Search until it obeys*.
"""
COMPARISON_ABOUT = """
One prompt and one seed, four ways to a picture, with the small models that come with the pack. No download and no
graphics card: press **Run**.

- **Referee Can Play** (green): the referee, here a small BLIP-2 that reads the prompt, pulls the picture towards
it; the diffusion model keeps it natural. Random views and jumps back to the running average keep the referee from
being fooled.
- **Plain sampling**: KSampler, at settings that suit this model. It mixes things up, as large models do.
- **SDS alone**: only the diffusion model pulls. Natural, but no closer to the prompt.
- **Inversion alone**: only the referee pulls, and it sees the bare picture. Specks please it that say nothing to
us.

Only the first result is saved; the others are previews. Paper: [Referee Can Play, ICML
2024](https://arxiv.org/abs/2402.16305).
"""
COMPARISON_TURN = """
- **The prompt**: for example *a yellow triangle and a purple cross*, *a green circle above a purple triangle*, *four
orange triangles*.
- **The seed**: another start for all four.
- **Random views, preset**: *none* brings the specks back. More views (*count*) make a cleaner picture and slower
steps.
- **The prior, weight**: higher is more natural and obeys less.
- **lr** of Referee Optimizer: how far the latent moves in a step. These models like 0.2, Stable Diffusion the
paper's 1.0.
- **Back to the average**: unplug it to see what it is good for.
"""
PAPER_ABOUT = """
*Referee Can Play* with the paper's numbers: BLIP-2 reads the prompt and pulls the latent towards it, score
distillation (SDS) from Stable Diffusion 1.5 keeps the picture natural. 160 steps, 30 random views a step, CFG 30.

- **Captioning** is off (*caption_weight* 0), because the file that the editor offers only matches. The paper adds
it: see *Files*.
- **Memory** runs out: lower *views_at_once* of Referee Optimizer. The result stays the same up to rounding.
- **Time**: fewer views (*count* of Augmentation Regularizer), for example 10, are faster and a little less clean.
- **Obedience against nature**: a higher *weight* of SDS Guidance is more natural and obeys less.
- What the authors' code does otherwise is the preset *reference code* of Referee Optimizer and of the random views.
"""
INVERSION_ABOUT = """
The referee alone: the latent moves until BLIP-2 agrees with the prompt, and only the random views that it judges
keep the picture in bounds. Of Stable Diffusion 1.5 only the VAE is used.

- **Random views, preset**: *none* shows why they are needed: the loss falls fast, the picture is specks.
- **count**: more views, cleaner shapes, slower steps.
- **lr** and **noise**: smaller is calmer and needs more steps.
- *tail* has no effect here: it is about the balance with a prior.
"""
SDS_ABOUT = """
The prior alone: score distillation (SDS) moves the latent towards what Stable Diffusion 1.5 takes for the prompt.
No referee is loaded. Compare the result with that of *16 SD 1.5 with BLIP-2*, which adds the referee.

- **cfg**: SDS needs high guidance. Lower is softer, much higher glares.
- **weight** and **lr**: how fast the latent moves.
- **noise**: a little helps the search, much leaves grain.
"""
SAMPLER_ABOUT = """
The same method as *16 SD 1.5 with BLIP-2* from parts: **Referee Sampler** is a SAMPLER, and the guider is the prior.
Plug in other guiders, conditioning or noise as with any sampler.

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
*Let it paint several, go on with the best.* KSampler paints four pictures, **Score Images** puts them in order, and
the best one goes on to **Referee Optimizer**, which corrects what is still wrong: with this prompt and seed none of the
four is right, and the result is. It needs no download: press **Run**.

- **One thing** and **Another** make the prompt. The referee judges by two sentences, the prompt and the same the other
way round, added by **Combine Referee Losses**.
- **What the referee says** follows the order of the pictures, best first. *match* is the probability that a sentence
fits, from 0 to 1; the picture's own is that of the sentence that fits least.
- **batch_size** of the empty latent: more pictures, better chances for the best.
- **keep** of Score Images: how many go on. The optimizer takes a batch as well.
- **t_max** of SDS Guidance, here 700: lower keeps more of the picture, 949 starts afresh.
"""
SEARCH_ABOUT = """
*Try seeds until one obeys.* **Search until it obeys** stands where KSampler would, with KSampler's fields. It samples
seed after seed, the referee judges each picture by several random views, and the first that matches comes out. It
needs no download: press **Run**.

- **attempts**: how many seeds at most. If none matches, the best one comes out.
- **stop_at**: how sure the referee must be. Higher is stricter and takes longer.
- **Referee Guidance** lets the referee take part in each picture: with these models the pair is right most often for
its cost. Without it each attempt costs a sixth, but is right less often.
- The icon at the right of its title shows the nodes inside.
"""
SEARCH_READY_ABOUT = """
- **attempts**: how many seeds at most. If none matches, the best one comes out. **stop_at**: how sure the referee must
be.
- **It finds too little?** Put *Referee Guidance* between the model and the search: more of the attempts match.
- Published weights have not been run with this pack.
"""
SEARCH_SD15_ABOUT = f"""
*Try seeds until one obeys*: Stable Diffusion 1.5 paints, BLIP-2 looks whether the picture shows the prompt. **Search
until it obeys** stands where KSampler would, with KSampler's fields.

{SEARCH_READY_ABOUT.strip()}
"""
SEARCH_SDXL_ABOUT = f"""
*Try seeds until one obeys*: SDXL paints, BLIP-2 looks whether the picture shows the prompt. **Search until it obeys**
stands where KSampler would, with KSampler's fields.

{SEARCH_READY_ABOUT.strip()}
"""
SEARCH_FLUX_ABOUT = f"""
*Try seeds until one obeys*: Flux.1 dev paints, BLIP-2 looks whether the picture shows the prompt. **Search until it
obeys** stands where KSampler would, with KSampler's fields.

{SEARCH_READY_ABOUT.strip()}
"""
GUIDED_ABOUT = """
*The referee takes part in the sampling.* **Referee Guidance** sits between model and KSampler. In each step
KSampler asks the model what the picture will be; the referee looks at that picture and moves it towards the prompt.

- Both pictures have the same seed, sampler and steps. It needs no download: press **Run**. With this prompt, picked for
it, none of the first 12 seeds is right without the referee, and 7 are with it.
- **strength, share**: how far each step is moved. 0 is plain sampling, about 0.2 obeys; far above 0.4 the pictures fall
apart.
- **end_percent**: guided to the very end, pictures please the referee alone. Leave the last third to the model.
- It helps most where several objects are to keep their own colours, and not with numbers. For a picture that is right
nearly always, **1 Search until it obeys** has it inside a search.
"""
GUIDED_SD15_ABOUT = """
Stable Diffusion 1.5 with KSampler as usual, and **Referee Guidance** between them: BLIP-2 looks at what the model
predicts in each step from a quarter to 70 % of the way, and moves it towards the prompt.

- **strength, share**: higher obeys more and looks less natural. 0 is plain sampling.
- **gradient**: *look-ahead* passes through the diffusion model too. Three times its time, more memory.
- LoRAs, ControlNets and other patches go in front of Referee Guidance, any sampler or guider behind it.
"""
GUIDED_FLUX_ABOUT = """
The same with Flux.1 dev, a flow model. Referee Guidance takes any MODEL of an image: put it behind the loader of
SD 3.5, Flux, Qwen-Image and others, quantised ones (fp8, GGUF) too, as long as **gradient** says *prediction*.

- Flux alone obeys well. What is left to the referee is where it still mixes things up.
- Memory: the diffusion model makes room for VAE and BLIP-2 as ComfyUI finds it necessary.
- Published Flux weights have not been run with this pack.
"""
GUIDED_SDXL_ABOUT = """
The same with SDXL: the checkpoint, KSampler as usual, and **Referee Guidance** between them.

- **gradient**: *look-ahead* passes through the diffusion model too, and obeys better where several objects are to keep
their own colours. Three times its time, more memory.
- Published SDXL weights have not been run with this pack.
"""
GUIDED_QWEN_ABOUT = """
The same with Qwen-Image. The weights are fp8, so **gradient** stays at *prediction*.

- Qwen-Image alone obeys well. The referee helps where it still mixes things up, as with many objects.
- Published Qwen-Image weights have not been run with this pack.
"""
ASKED_ABOUT = """
- **Referee Loss per Statement** asks about each part of the prompt. Where the rules split badly, write your own lines
into *statements*; not in English, connect Load CLIP to its *clip*.
- **attempts**: how many seeds at most. **stop_at**: how sure the referee must be of the worst part.
- The referee and the model take turns in memory. Published weights have not been run with this pack.
"""
ASKED_Z_IMAGE_ABOUT = f"""
*Try seeds until one obeys*: Z-Image-Turbo paints, a Qwen3-VL looks whether the picture shows the prompt.

- **variation** of the search: seeds of this model hardly differ, so each attempt reads the prompt with some noise.
{ASKED_ABOUT.strip()}
"""
ASKED_KREA_ABOUT = f"""
*Try seeds until one obeys*: Krea 2 Turbo paints, and its own text encoder, a Qwen3-VL, looks whether the picture shows
the prompt. Nothing more to download.

- **variation** of the search: each attempt reads the prompt with some noise. 0 where the seeds differ enough.
{ASKED_ABOUT.strip()}
"""
ASKED_SDXL_ABOUT = f"""
*Try seeds until one obeys*: SDXL paints, a Qwen3-VL looks whether the picture shows the prompt.

{ASKED_ABOUT.strip()}
"""
RESTORED_ABOUT = """
- **Residual** measures the result again: grey where it is still your picture. Its number beside the noise says it too.
- **preset**: *projection* was the best in measurement, and asks for no gradients. *P2L* tunes the prompt as well.
- **lam**: lower is truer to your picture. **denoise** of BasicScheduler: how much is painted anew.
- **The prompt** is empty. You may also write what the picture shows.
"""
RESTORE_ABOUT = f"""
*A picture is shrunk to a quarter and restored*, with the small models that come with the pack. Press **Run**: no
download. In the end it is compared with the original, which a restoration of your own does not have.

{RESTORED_ABOUT.strip()}
"""
UPSCALE_SD15_ABOUT = f"""
*Your small picture four times larger*, so that shrinking the result gives your picture again.

{RESTORED_ABOUT.strip()}
- Published weights have not been run with this pack.
"""
INPAINT_SD15_ABOUT = f"""
*Fill what is masked, and leave the rest as it is, bit for bit*. Paint a mask on **Your picture**.

{RESTORED_ABOUT.strip()}
- Published weights have not been run with this pack.
"""
DEBLUR_SD15_ABOUT = f"""
*Take out a blur*, so that blurring the result gives your picture again. **Measurement** must know the
blur: a Gaussian one by its width, camera shake by a kernel.

{RESTORED_ABOUT.strip()}
- Published weights have not been run with this pack.
"""
PROMPT_ABOUT = """
*Tokens around the prompt, learned until the referee agrees.* **Optimize Prompt** learns a few tokens that stand before
and after the prompt. Then KSampler uses the longer prompt as it uses any.

- It takes minutes, once. It pays where one prompt is used many times: each picture then costs what a plain one costs.
- The two pictures have the same seed, which was not learned from.
- Where no tokens do better than none on other noises, the plain prompt comes out and the node says so: then the two
pictures are the same. That happens with most prompts; another **seed** may find some.
- **last_steps**: more reach what the picture shows, fewer only its details.
- **Save Prompt Tokens** keeps them as a small file; *Load* and *Apply Prompt Tokens* use it again.
"""
PROMPT_SD15_ABOUT = """
The same with Stable Diffusion 1.5 and BLIP-2. Gradients pass through the diffusion model: a graphics card is needed.

- **last_steps 2** of 30 is near the paper's. More cost time, not memory.
- The tokens are saved under the name in **Save Prompt Tokens**. They are for SD 1.5's text encoder only; others are
refused by name.
- Published SD 1.5 weights have not been run with this node.
"""
PROMPTS_ABOUT = """
*One set of tokens for many prompts* (IPGO+). **Train Prompt Tokens** learns from most of the list and looks at the rest
to choose. Then the tokens go around a prompt that was not in the list.

- With the pack's small models, on a CPU, this takes about a quarter of an hour.
- Prompts of one kind learn best together.
"""
