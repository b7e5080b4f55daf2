"""From prompt to token ids: ComfyUI's emphasis, LAVIS's cleaning, BERT's pieces and the limit of length."""

import pytest

from referee_core.referees.blip2.text import SPECIAL, Tokenizer, clean, strip_weights
from referee_core.referees.blip2.vocabulary import bert_base_uncased


@pytest.fixture
def tokenizer(vocabulary):
    return Tokenizer(vocabulary, max_tokens=32)


def pieces(tokenizer, ids):
    return [tokenizer.vocabulary[i] for i in ids.flatten().tolist()]


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("A (masterpiece:1.2), photo of a red cat!!", "a masterpiece 1 2 , photo of a red cat"),
        ("What's that? A well-known [thing], yes", "what's that? a well-known [thing], yes"),
        ('one. two! "three" *four* #five; six ~seven', "one two three four five six seven"),
        ("a\tcat\nand a dog\n", "a\tcat\nand a dog"),
        ("  a   cat \n ", "a cat"),
        ("[DEC] A [SEP]", "[dec] a [sep]"),
        (" . ", ""),
    ],
)
def test_cleaning_is_blip_captions(raw, cleaned):
    assert clean(raw) == cleaned


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("(red:1.3) (circle)", "red circle"),
        ("((red:1.2) cat:0.8) and a dog", "red cat and a dog"),
        ("(((very) (red)))", "very red"),
        ("(red cat: 1.3 )", "red cat"),
        ("(red:-0.5) (blue:.5) (dog:2)", "red blue dog"),
        ("(cat:1.)", "cat"),
        (r"cat \(animal\)", "cat (animal)"),
        (r"(cat \(animal\):1.2)", "cat (animal)"),
        (r"(a \(b:1.2\))", "a (b:1.2)"),
        ("at 12:30, a ratio of 16:9", "at 12:30, a ratio of 16:9"),
        ("a cat", "a cat"),
        ("", ""),
    ],
)
def test_emphasis_is_removed_and_escaped_parentheses_stay(prompt, plain):
    assert strip_weights(prompt).split() == plain.split()


@pytest.mark.parametrize("prompt", ["(red)(cat)", "a (red:1.2)cat", "red(cat:1.2)"])
def test_emphasis_never_glues_two_words_together(tokenizer, prompt):
    """ComfyUI tokenises each emphasised part on its own, so "(red)(cat)" is two words."""
    assert pieces(tokenizer, tokenizer.encode(prompt).match_ids)[-3:-1] == ["red", "cat"]


def test_ids_are_word_pieces_between_the_special_tokens(tokenizer):
    encoded = tokenizer.encode("A (RED:1.2) cat, running")
    words = ["a", "red", "cat", ",", "run", "##ning"]
    assert pieces(tokenizer, encoded.match_ids) == ["[CLS]", *words, "[SEP]"]
    assert pieces(tokenizer, encoded.caption_ids) == ["[DEC]", *words, "[SEP]"]
    assert encoded.match_ids.shape == encoded.caption_ids.shape == encoded.mask.shape == (1, 8)
    assert encoded.mask.all()
    assert (encoded.text, encoded.cut) == ("a red cat, running", "")


def test_accents_are_stripped_unknown_words_are_unk_and_special_tokens_cannot_be_typed(tokenizer):
    assert pieces(tokenizer, tokenizer.encode("Réd zebra").match_ids)[1:-1] == ["red", "[UNK]"]
    assert not {"[DEC]", "[SEP]", "[CLS]"} & set(pieces(tokenizer, tokenizer.encode("[DEC] a [SEP]").match_ids)[1:-1])


@pytest.mark.parametrize(("words", "kept"), [(29, 29), (30, 30), (31, 30), (45, 30), (50, 30), (51, 30), (80, 30)])
def test_30_word_pieces_fit_and_the_rest_is_reported(tokenizer, words, kept):
    names = [["red", "blue", "cat", "dog", "ball"][i % 5] for i in range(words)]
    encoded = tokenizer.encode(" ".join(names))
    assert pieces(tokenizer, encoded.match_ids) == ["[CLS]", *names[:kept], "[SEP]"]
    assert pieces(tokenizer, encoded.caption_ids) == ["[DEC]", *names[:kept], "[SEP]"]
    assert encoded.cut == " ".join(names[kept:])
    assert encoded.text == " ".join(names)


def test_the_limit_counts_pieces_and_not_words(tokenizer):
    encoded = tokenizer.encode("running " * 14 + "cat dog, ball")
    assert pieces(tokenizer, encoded.match_ids)[-3:-1] == ["cat", "dog"]
    assert encoded.cut == ", ball"


def test_words_beyond_50_are_reported_where_the_pieces_would_still_fit(vocabulary):
    """LAVIS keeps 50 words, whatever the limit of pieces."""
    names = ["red", "cat"] * 30
    encoded = Tokenizer(vocabulary, max_tokens=100).encode(" ".join(names))
    assert encoded.match_ids.shape == (1, 52)
    assert encoded.cut == " ".join(names[50:])


@pytest.mark.parametrize("prompt", ["", "   ", "\n", "()", "(:1.2)", "!!! ...", "***"])
def test_nothing_to_judge_is_refused(tokenizer, prompt):
    with pytest.raises(ValueError, match="empty"):
        tokenizer.encode(prompt)


@pytest.mark.parametrize("token", SPECIAL)
def test_a_vocabulary_without_a_special_token_is_refused_by_name(vocabulary, token):
    vocabulary.remove(token)
    with pytest.raises(ValueError) as error:
        Tokenizer(vocabulary, 32)
    assert token in str(error.value)


def test_unknown_words_are_named_as_they_were_written(tokenizer):
    encoded = tokenizer.encode("A red (Zebra:1.2), and a Zebra dog 🔴🟦 Zoo")
    assert encoded.unknown == ("Zebra", "🔴🟦", "Zoo")
    assert tokenizer.encode("a red cat").notes == []
    weights, unknown = encoded.notes
    assert "prompt weights" in weights and "'Zebra', '🔴🟦', 'Zoo'" in unknown
    assert "cut off: 'cat cat'" in tokenizer.encode("cat " * 32).notes[0]


@pytest.mark.parametrize("prompt", ["🔴 🟦", "красный круг", "赤い 丸", "zebra, zoo", ", ,"])
def test_a_text_of_unknown_words_is_refused(tokenizer, prompt):
    with pytest.raises(ValueError, match="knows no word of the text"):
        tokenizer.encode(prompt)


@pytest.mark.parametrize(
    "prompt", ["🔴 🟦", "красный круг и синий квадрат", "κόκκινος κύκλος", "دائرة حمراء", "红色圆形"]
)
def test_bert_knows_no_word_of_other_scripts(bert, prompt):
    with pytest.raises(ValueError, match="knows no word of the text"):
        bert.encode(prompt)


def test_bert_reads_english_however_rare(bert):
    assert bert.encode("Two zwölf dslr straße 8k, vermeil ocelots").unknown == ()
    assert bert.encode("a red cat 🔴 and красный Круг").unknown == ("🔴", "красный", "Круг")


@pytest.fixture(scope="module")
def bert():
    return Tokenizer(bert_base_uncased(), max_tokens=32)
