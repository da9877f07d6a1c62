"""Believable names for the made-up company: people of many cultures, and the firms they work for.

A name is written as its bearer writes it; `native/latin` gives the spelling for an e-mail address
where dropping accents does not. All hosts end in `.example`, so that no address is anybody's.
"""

from __future__ import annotations

import unicodedata
from random import Random
from typing import NamedTuple


class Culture(NamedTuple):
    country: str
    given: list[tuple[str, str]]
    family: list[tuple[str, str]]
    is_family_first: bool


_LATIN = str.maketrans(
    {"ø": "o", "ł": "l", "ß": "ss", "ı": "i", "đ": "d", "æ": "ae", "þ": "th", "ð": "d"}
)


def ascii_slug(text: str) -> str:
    """Lower case letters and digits only, accents dropped."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_LATIN))
    return "".join(char for char in plain if char.isascii() and char.isalnum())


def _names(text: str) -> list[tuple[str, str]]:
    pairs = [name.partition("/") for name in text.split()]
    return [(native, latin or ascii_slug(native)) for native, _, latin in pairs]


def _culture(country: str, given: str, family: str, *, is_family_first: bool = False) -> Culture:
    return Culture(country, _names(given), _names(family), is_family_first)


CULTURES = [
    _culture(
        "Netherlands",
        "Sanne Daan Lotte Bram Femke Thijs Noor Jeroen Maartje Sjoerd",
        "Bakker Visser Smit Mulder Dekker Hoekstra Kuipers Vermeulen Postma",
    ),
    _culture(
        "Germany",
        "Jürgen Käthe Björn Anneliese Lukas Heike Günther Mia Sören Antje",
        "Müller Schröder Weiß Krüger Böhm Vogel Lindner Köhler Strauß",
    ),
    _culture(
        "France",
        "Zoé Étienne Chloé François Inès Benoît Maëlle Loïc Aurélie Noémie",
        "Lefèvre Dubois Gauthier Béranger Moreau Lemaître Perrin Girard Noël",
    ),
    _culture(
        "Spain",
        "Íñigo Begoña Álvaro Lucía Joaquín Marisol Andrés Nuria Óscar Ximena",
        "Muñoz García Ibáñez Ortega Núñez Pérez Castaño Vidal Echeverría",
    ),
    _culture(
        "Poland",
        "Łukasz Małgorzata Paweł Agnieszka Zbigniew Bożena Michał Żaneta Grzegorz Ewa",
        "Wójcik Dąbrowska Kamiński Żuk Lewandowska Głowacki Pawlak Szymczak",
    ),
    _culture(
        "Norway",
        "Bjørn Sigrid Håkon Åse Øyvind Ingrid Solveig Tor Kjersti Magnus",
        "Sørensen Ødegård Haugen Bråthen Lie Strand Bakken Nygård Fjeld",
    ),
    _culture(
        "Türkiye",
        "Ayşe Çağlar Işıl Oğuz Gülşen Barış Yağmur Şirin Emre Tuğba",
        "Yılmaz Çelik Şahin Öztürk Aydın Doğan Kılıç Güneş Erdoğdu",
    ),
    _culture(
        "Ukraine",
        "Олена/olena Тарас/taras Оксана/oksana Богдан/bohdan Ірина/iryna Юрій/yurii",
        "Шевчук/shevchuk Коваленко/kovalenko Бондар/bondar Мельник/melnyk Кравець/kravets",
    ),
    _culture(
        "Greece",
        "Ελένη/eleni Γιώργος/giorgos Κατερίνα/katerina Νίκος/nikos Σοφία/sofia",
        "Παπαδάκη/papadaki Γεωργίου/georgiou Νικολάου/nikolaou Δήμου/dimou",
    ),
    _culture(
        "Israel",
        "נועה/noa איתן/eitan תמר/tamar יונתן/yonatan שירה/shira",
        "כהן/cohen לוי/levi מזרחי/mizrahi פרץ/peretz ברק/barak",
    ),
    _culture(
        "Egypt",
        "ليلى/layla عمر/omar سلمى/salma يوسف/youssef مريم/mariam كريم/karim",
        "حسن/hassan منصور/mansour فاروق/farouk سالم/salem نجيب/naguib",
    ),
    _culture(
        "India",
        "अनन्या/ananya Arjun Priya Rohan दीपिका/deepika Vikram Kavitha Sanjay",
        "Sharma पटेल/patel Iyer Banerjee Reddy Kulkarni Nair चौधरी/chaudhary",
    ),
    _culture(
        "Nigeria",
        "Chioma Ọlá/ola Ngozi Emeka Adébáyọ̀/adebayo Ifeoma Tunde Yetunde Obinna",
        "Okafor Adéyẹmí/adeyemi Eze Balogun Nwosu Ọbasanjọ/obasanjo Danjuma",
    ),
    _culture(
        "Brazil",
        "João Conceição Thaís Antônio Flávia Gonçalo Júlia Caetano Iara",
        "Araújo Magalhães Simões Figueirêdo Brandão Teixeira Leitão",
    ),
    _culture(
        "Ireland",
        "Aoife Seán Niamh Pádraig Siobhán Ciarán Gráinne Tadhg Maeve",
        "O'Brien Ó'Súilleabháin/osullivan Byrne Walsh Kavanagh Doyle Nolan",
    ),
    _culture(
        "Japan",
        "花子/hanako 健太/kenta 美咲/misaki 翔/sho 結衣/yui 大輔/daisuke",
        "佐藤/sato 鈴木/suzuki 高橋/takahashi 渡辺/watanabe 小林/kobayashi",
        is_family_first=True,
    ),
    _culture(
        "Korea",
        "지우/jiwoo 민준/minjun 서연/seoyeon 현우/hyunwoo 수빈/subin",
        "김/kim 이/lee 박/park 최/choi 정/jung",
        is_family_first=True,
    ),
    _culture(
        "Taiwan",
        "怡君/yijun 志明/zhiming 雅婷/yating 家豪/jiahao 淑芬/shufen",
        "陳/chen 林/lin 黃/huang 張/zhang 吳/wu",
        is_family_first=True,
    ),
    _culture(
        "Vietnam",
        "Linh Đức Hương Tuấn Ngọc Phương Minh Thảo",
        "Nguyễn Trần Lê Phạm Đặng Vũ Bùi",
        is_family_first=True,
    ),
]

TITLES = [
    "Accountant",
    "Bookkeeper",
    "Chief Financial Officer",
    "Controller",
    "Customer Success Manager",
    "Founder",
    "Head of Operations",
    "Office Manager",
    "Product Manager",
    "Sales Manager",
    "Software Engineer",
]


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words(
    "Nordwind Polder Étoile Kestrel Zażółć Fjell Sakura Ubuntu Lumière Meridian Harbour Granit "
    "Açaí Monsun Olive Tundra Cobalt Juniper Saffron Delta Marigold Atlas Brücke Cedar Quill "
    "Solstice Baobab Pampas Zenit Lantern"
)
_SECOND = _words(
    "Logistics Studio Foods Energie Labs Textiles Robotics Verlag Media Consulting Clinics "
    "Software Outdoor Finance Werke Travel Design Systems Brewing Architects"
)


class Unique:
    """Hands out each text once: one that was taken before gets a number, before a given sign."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def of(self, text: str, *, before: str) -> str:
        times = self._taken[text] = self._taken.get(text, 0) + 1
        if times == 1:
            return text
        head, sign, tail = text.partition(before)
        return self.of(f"{head}{times}{sign}{tail}", before=before)


def person(random: Random, culture: Culture) -> tuple[str, str]:
    """A full name, and the same as the local part of an e-mail address."""
    given, given_latin = random.choice(culture.given)
    family, family_latin = random.choice(culture.family)
    name = f"{family} {given}" if culture.is_family_first else f"{given} {family}"
    return name, f"{given_latin}.{family_latin}"


def firm(random: Random) -> tuple[str, str]:
    """A company's name, and the same as a label of its domain."""
    name = f"{random.choice(_FIRST)} {random.choice(_SECOND)}"
    return name, ascii_slug(name)
