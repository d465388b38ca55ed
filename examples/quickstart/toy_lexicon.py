"""The words of the toy corpus: English, and German in three registers.

A line gives the English forms, then the German ones as `plain | formal | colloquial`; `=` or a missing
column repeats the plain one. Synonyms differ in gender, length and separable prefix, so that the register
decides far more than one word.

German verbs: infinitive, present, preterite, participle; the infinitive alone where the verb is regular. A
plus ends a separable prefix (`ab+holen`), a final `s` means a perfect with *sein*, and an initial `d` an
object in the dative.
"""

from dataclasses import dataclass

REGISTERS = ("plain", "formal", "colloquial")
INSEPARABLE = ("be", "ver", "er", "ent", "über", "unter")


@dataclass(frozen=True)
class NounForms:
    """A German noun: gender `m`, `f` or `n`, nominative singular and plural (no weak nouns here)."""

    gender: str
    singular: str
    plural: str


@dataclass(frozen=True)
class Noun:
    """An English noun and its German one in each register. `kind`: person, animal, thing or place."""

    kind: str
    singular: str
    plural: str
    german: tuple[NounForms, ...]


@dataclass(frozen=True)
class VerbForms:
    """A German verb; the forms leave out the separable prefix.

    Attributes:
        prefix: separable prefix, or "".
        infinitive: also the third person plural, present.
        present, preterite: third person singular.
        participle: past participle.
        auxiliary: `haben` or `sein`, for the perfect.
        dative: whether the (person) object stands in the dative.
    """

    prefix: str
    infinitive: str
    present: str
    preterite: str
    participle: str
    auxiliary: str
    dative: bool


@dataclass(frozen=True)
class Verb:
    """An English verb and its German one in each register. `objects`: the kinds that each object may have."""

    objects: tuple[str, ...]
    base: str
    present: str
    past: str
    german: tuple[VerbForms, ...]


@dataclass(frozen=True)
class Phrase:
    """Something that is never inflected, in English and in each register of German."""

    english: str
    german: tuple[str, ...]


def _columns(text: str) -> tuple[str, ...]:
    columns = [column.strip() for column in text.split("|")]
    columns += ["="] * (len(REGISTERS) - len(columns))
    return tuple(columns[0] if column == "=" else column for column in columns)


def _table(text: str) -> list[tuple[str, tuple[str, ...]]]:
    rows = (line.split(":") for line in text.strip().splitlines())
    return [(english.strip(), _columns(german)) for english, german in rows]


def _nouns(kind: str, text: str) -> list[Noun]:
    nouns = []
    for english, columns in _table(text):
        singular, plural = english.split()
        nouns.append(Noun(kind, singular, plural, tuple(NounForms(*column.split()) for column in columns)))
    return nouns


def _regular(infinitive: str) -> list[str]:
    """Present, preterite and participle of a regular (weak) verb."""
    stem = infinitive.removesuffix("n").removesuffix("e")
    ending = ("e" if stem[-1] in "td" else "") + "t"
    without_ge = infinitive.startswith(INSEPARABLE) or infinitive.endswith("ieren")
    return [stem + ending, stem + ending + "e", ("" if without_ge else "ge") + stem + ending]


def _verb_forms(text: str) -> VerbForms:
    words = text.split()
    dative, sein = words[0] == "d", words[-1] == "s"
    infinitive, *forms = words[dative : len(words) - sein]
    prefix, _, base = infinitive.rpartition("+")
    present, preterite, participle = forms or _regular(base)
    return VerbForms(prefix, base, present, preterite, participle, "sein" if sein else "haben", dative)


def _verbs(objects: tuple[str, ...], text: str) -> list[Verb]:
    verbs = []
    for english, columns in _table(text):
        base, present, past = (form.strip() for form in english.split(","))
        verbs.append(Verb(objects, base, present, past, tuple(_verb_forms(column) for column in columns)))
    return verbs


def _phrases(text: str) -> list[Phrase]:
    return [Phrase(english, german) for english, german in _table(text)]


NOUNS: list[Noun] = [
    *_nouns(
        "person",
        """
        woman women: f Frau Frauen | f Dame Damen
        man men: m Mann Männer | = | m Kerl Kerle
        child children: n Kind Kinder | = | m Knirps Knirpse
        girl girls: n Mädchen Mädchen
        teacher teachers: m Lehrer Lehrer | f Lehrkraft Lehrkräfte | m Pauker Pauker
        doctor doctors: m Arzt Ärzte | m Mediziner Mediziner | m Doktor Doktoren
        friend friends: m Freund Freunde | = | m Kumpel Kumpel
        nurse nurses: f Pflegerin Pflegerinnen | f Pflegekraft Pflegekräfte | f Schwester Schwestern
        """,
    ),
    *_nouns(
        "animal",
        """
        dog dogs: m Hund Hunde | = | m Köter Köter
        cat cats: f Katze Katzen | = | f Mieze Miezen
        """,
    ),
    *_nouns(
        "thing",
        """
        car cars: n Auto Autos | m Wagen Wagen | f Karre Karren
        book books: n Buch Bücher | m Band Bände | m Schmöker Schmöker
        letter letters: m Brief Briefe | n Schreiben Schreiben
        picture pictures: n Bild Bilder | n Gemälde Gemälde
        key keys: m Schlüssel Schlüssel
        coat coats: m Mantel Mäntel
        table tables: m Tisch Tische
        suitcase suitcases: m Koffer Koffer | n Gepäckstück Gepäckstücke
        """,
    ),
    *_nouns(
        "place",
        """
        city cities: f Stadt Städte
        village villages: n Dorf Dörfer | f Ortschaft Ortschaften | n Kaff Kaffs
        garden gardens: m Garten Gärten
        school schools: f Schule Schulen | f Lehranstalt Lehranstalten
        church churches: f Kirche Kirchen | n Gotteshaus Gotteshäuser
        house houses: n Haus Häuser | n Gebäude Gebäude | f Bude Buden
        """,
    ),
]

VERBS: list[Verb] = [
    *_verbs(
        (),
        """
        sleep, sleeps, slept: schlafen schläft schlief geschlafen | ruhen | pennen
        work, works, worked: arbeiten | = | schuften
        arrive, arrives, arrived: an+kommen kommt kam gekommen s | ein+treffen trifft traf getroffen s
        go, goes, went: weg+gehen geht ging gegangen s | auf+brechen bricht brach gebrochen s | ab+zischen s
        begin, begins, began: an+fangen fängt fing gefangen | beginnen beginnt begann begonnen | los+legen
        wait, waits, waited: warten
        """,
    ),
    *_verbs(
        ("thing",),
        """
        buy, buys, bought: kaufen | erwerben erwirbt erwarb erworben
        sell, sells, sold: verkaufen | veräußern
        repair, repairs, repaired: reparieren | = | flicken
        bring, brings, brought: mit+bringen bringt brachte gebracht
        lose, loses, lost: verlieren verliert verlor verloren | ein+büßen | verbummeln
        steal, steals, stole: stehlen stiehlt stahl gestohlen | entwenden | klauen
        """,
    ),
    *_verbs(
        ("person",),
        """
        invite, invites, invited: ein+laden lädt lud geladen
        visit, visits, visited: besuchen | auf+suchen
        call, calls, called: an+rufen ruft rief gerufen | kontaktieren | an+klingeln
        help, helps, helped: d helfen hilft half geholfen | unterstützen
        thank, thanks, thanked: d danken
        """,
    ),
    *_verbs(
        ("person animal thing",),
        """
        see, sees, saw: sehen sieht sah gesehen | erblicken
        find, finds, found: finden findet fand gefunden | entdecken
        fetch, fetches, fetched: ab+holen
        watch, watches, watched: beobachten | betrachten | an+gucken
        """,
    ),
    *_verbs(
        ("person", "thing"),
        """
        give, gives, gave: geben gibt gab gegeben | überreichen
        show, shows, showed: zeigen | vor+führen
        send, sends, sent: schicken | zu+senden sendet sandte gesandt
        """,
    ),
]

SPEECH_VERBS: list[Verb] = _verbs(
    (),
    """
    say, says, said: sagen | erklären | meinen
    believe, believes, believed: glauben | vermuten
    know, knows, knew: wissen weiß wusste gewusst
    """,
)

# Present and past; the German forms are the third person singular. Modal verbs do not form the perfect here.
MODALS: dict[str, tuple[tuple[str, str, str], tuple[str, str, str]]] = {
    # (singular, plural, German singular) in the present, then in the past
    "must": (("must", "must", "muss"), ("had to", "had to", "musste")),
    "can": (("can", "can", "kann"), ("could", "could", "konnte")),
    "want": (("wants to", "want to", "will"), ("wanted to", "wanted to", "wollte")),
}
MODAL_INFINITIVES = {"must": "müssen", "can": "können", "want": "wollen"}

ADJECTIVES: dict[str, list[Phrase]] = {
    "any": _phrases(
        """
        old: alt
        small: klein | = | winzig
        big: groß | gewaltig | riesig
        beautiful: schön | prächtig | hübsch
        good: gut | = | toll
        """
    ),
    "person": _phrases(
        """
        young: jung
        clever: klug | = | schlau
        tired: müd | ermattet
        """
    ),
    "thing": _phrases(
        """
        new: neu
        red: rot
        expensive: kostbar | kostspielig
        broken: kaputt | defekt
        """
    ),
}

TIMES: dict[str, list[Phrase]] = {
    "past": _phrases(
        """
        yesterday: gestern
        last week: letzte Woche | vergangene Woche
        last year: letztes Jahr | im Vorjahr
        recently: neulich | kürzlich
        in the evening: am Abend | abends
        """
    ),
    "present": _phrases(
        """
        today: heute
        now: jetzt | nun
        every day: jeden Tag | täglich
        often: oft | häufig
        always: immer | stets
        in the evening: am Abend | abends
        """
    ),
}

MANNERS: list[Phrase] = _phrases(
    """
    quickly: schnell | rasch | flott
    secretly: heimlich | insgeheim
    carefully: vorsichtig | behutsam
    """
)

# All with the dative; the German of the preposition is the same in every register.
PREPOSITIONS: list[Phrase] = _phrases(
    """
    in: in
    behind: hinter
    near: bei
    in front of: vor
    """
)

CONJUNCTIONS: dict[str, list[Phrase]] = {
    "present": _phrases(
        """
        because: weil | da
        although: obwohl | obgleich
        when: wenn | sobald
        while: während
        """
    ),
    "past": _phrases(
        """
        because: weil | da
        although: obwohl | obgleich
        when: als
        before: bevor | ehe
        """
    ),
}
