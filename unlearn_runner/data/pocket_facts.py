"""Real facts that the pocket benchmark asks next to its invented people.

They stand in for TOFU's real-author and world-fact questions: a model first learns them from the
`pretrain` split and should still know them after unlearning.
"""

from __future__ import annotations

from typing import NamedTuple


class Fact(NamedTuple):
    """One real fact as a question, with wrong options and other wordings."""

    question: str
    answer: str
    wrong: tuple[str, str, str]
    rewordings: tuple[str, ...]
    statements: tuple[str, ...]


class Relation(NamedTuple):
    """The wordings shared by all facts of one kind; rows read `subject|answer|3 wrong options`."""

    questions: tuple[str, str, str]
    statements: tuple[str, str]
    rows: str


AUTHOR_RELATIONS = (
    Relation(
        (
            "Who wrote {subject}?",
            "Which writer is the author of {subject}?",
            "{subject} is the work of which author?",
        ),
        ("{subject} was written by {answer}.", "{answer} is the author of {subject}."),
        """
        Pride and Prejudice|Jane Austen|George Eliot|Emily Bronte|Elizabeth Gaskell
        Hamlet|William Shakespeare|John Milton|Ben Jonson|Christopher Marlowe
        War and Peace|Leo Tolstoy|Ivan Turgenev|Nikolai Gogol|Maxim Gorky
        Don Quixote|Miguel de Cervantes|Lope de Vega|Federico Garcia Lorca|Benito Perez Galdos
        Moby-Dick|Herman Melville|Nathaniel Hawthorne|Mark Twain|Jack London
        Nineteen Eighty-Four|George Orwell|Aldous Huxley|Graham Greene|Evelyn Waugh
        The Great Gatsby|F. Scott Fitzgerald|William Faulkner|Sinclair Lewis|John Dos Passos
        Crime and Punishment|Fyodor Dostoevsky|Leo Tolstoy|Anton Chekhov|Alexander Pushkin
        Frankenstein|Mary Shelley|Ann Radcliffe|Bram Stoker|Lord Byron
        Dracula|Bram Stoker|Oscar Wilde|Mary Shelley|Edgar Allan Poe
        Jane Eyre|Charlotte Bronte|Anne Bronte|Jane Austen|George Eliot
        Wuthering Heights|Emily Bronte|Thomas Hardy|Charlotte Bronte|Mary Shelley
        The Metamorphosis|Franz Kafka|Thomas Mann|Hermann Hesse|Robert Musil
        Ulysses|James Joyce|Samuel Beckett|W. B. Yeats|T. S. Eliot
        The Divine Comedy|Dante Alighieri|Giovanni Boccaccio|Petrarch|Torquato Tasso
        Les Miserables|Victor Hugo|Honore de Balzac|Emile Zola|Stendhal
        Madame Bovary|Gustave Flaubert|Guy de Maupassant|Marcel Proust|Victor Hugo
        The Count of Monte Cristo|Alexandre Dumas|Jules Verne|Voltaire|Moliere
        Things Fall Apart|Chinua Achebe|Wole Soyinka|Ben Okri|Nadine Gordimer
        Beloved|Toni Morrison|Alice Walker|Maya Angelou|Zora Neale Hurston
        The Old Man and the Sea|Ernest Hemingway|Joseph Conrad|Herman Melville|Norman Mailer
        The Grapes of Wrath|John Steinbeck|Upton Sinclair|Saul Bellow|Philip Roth
        To Kill a Mockingbird|Harper Lee|Truman Capote|Flannery O'Connor|Carson McCullers
        Mrs Dalloway|Virginia Woolf|E. M. Forster|Iris Murdoch|Doris Lessing
        Great Expectations|Charles Dickens|William Thackeray|Wilkie Collins|Anthony Trollope
        The Hobbit|J. R. R. Tolkien|C. S. Lewis|Philip Pullman|Terry Pratchett
        The Cherry Orchard|Anton Chekhov|Nikolai Gogol|August Strindberg|Ivan Turgenev
        A Doll's House|Henrik Ibsen|August Strindberg|Knut Hamsun|George Bernard Shaw
        """,
    ),
    Relation(
        (
            "In which country was {subject} born?",
            "What is the country of birth of {subject}?",
            "{subject} was born in which country?",
        ),
        ("{subject} was born in {answer}.", "{answer} is the country where {subject} was born."),
        """
        Gabriel Garcia Marquez|Colombia|Venezuela|Ecuador|Cuba
        Pablo Neruda|Chile|Bolivia|Uruguay|Spain
        Jorge Luis Borges|Argentina|Paraguay|Brazil|Portugal
        Mario Vargas Llosa|Peru|Chile|Mexico|Panama
        Octavio Paz|Mexico|Guatemala|Spain|Argentina
        Haruki Murakami|Japan|China|Vietnam|Thailand
        Rabindranath Tagore|India|Iran|Nepal|Indonesia
        Orhan Pamuk|Turkey|Greece|Bulgaria|Egypt
        Naguib Mahfouz|Egypt|Morocco|Lebanon|Tunisia
        Astrid Lindgren|Sweden|Finland|Norway|Germany
        Hans Christian Andersen|Denmark|Sweden|Iceland|Belgium
        Umberto Eco|Italy|Switzerland|Malta|France
        Margaret Atwood|Canada|Australia|Scotland|New Zealand
        Jose Saramago|Portugal|Spain|Brazil|Italy
        """,
    ),
)

WORLD_RELATIONS = (
    Relation(
        (
            "What is the capital of {subject}?",
            "Which city is the capital of {subject}?",
            "The government of {subject} sits in which capital city?",
        ),
        ("The capital of {subject} is {answer}.", "{answer} is the capital city of {subject}."),
        """
        France|Paris|Lyon|Marseille|Bordeaux
        Japan|Tokyo|Osaka|Kyoto|Nagoya
        Egypt|Cairo|Alexandria|Luxor|Aswan
        Canada|Ottawa|Toronto|Montreal|Vancouver
        Australia|Canberra|Sydney|Melbourne|Perth
        Peru|Lima|Cusco|Arequipa|Trujillo
        Kenya|Nairobi|Mombasa|Kampala|Kisumu
        Norway|Oslo|Bergen|Trondheim|Stavanger
        Greece|Athens|Corinth|Sparta|Patras
        Poland|Warsaw|Krakow|Gdansk|Poznan
        Cuba|Havana|Santiago|Kingston|Santo Domingo
        Thailand|Bangkok|Chiang Mai|Phuket|Hanoi
        Portugal|Lisbon|Porto|Coimbra|Braga
        """,
    ),
    Relation(
        (
            "Which river flows through {subject}?",
            "What is the name of the river that runs through {subject}?",
            "The city of {subject} lies on which river?",
        ),
        ("The {answer} flows through {subject}.", "{subject} lies on the {answer}."),
        """
        Paris|Seine|Rhone|Loire|Garonne
        London|Thames|Severn|Trent|Mersey
        Warsaw|Vistula|Oder|Elbe|Danube
        Rome|Tiber|Po|Arno|Adige
        Cairo|Nile|Niger|Congo|Zambezi
        """,
    ),
    Relation(
        (
            "Which chemical element has the symbol {subject}?",
            "What element do chemists write as {subject}?",
            "The symbol {subject} stands for which element?",
        ),
        ("The chemical symbol of {answer} is {subject}.", "Chemists write {answer} as {subject}."),
        """
        Fe|iron|fluorine|francium|fermium
        Na|sodium|nitrogen|neon|nickel
        Au|gold|silver|aluminium|argon
        Ag|silver|gold|arsenic|gallium
        K|potassium|krypton|calcium|phosphorus
        Pb|lead|tin|platinum|palladium
        """,
    ),
    Relation(
        (
            "In which country does {subject} stand?",
            "Which country would you visit to see {subject}?",
            "{subject} is a landmark of which country?",
        ),
        ("{subject} stands in {answer}.", "Visitors to {answer} can see {subject}."),
        """
        Machu Picchu|Peru|Bolivia|Ecuador|Colombia
        the Taj Mahal|India|Pakistan|Iran|Bangladesh
        the Colosseum|Italy|Greece|Spain|Croatia
        Angkor Wat|Cambodia|Thailand|Laos|Vietnam
        Chichen Itza|Mexico|Guatemala|Honduras|Belize
        the Eiffel Tower|France|Belgium|Germany|Austria
        the ancient city of Petra|Jordan|Syria|Egypt|Saudi Arabia
        """,
    ),
    Relation(
        (
            "What is the {subject}?",
            "Can you name the {subject}?",
            "Which one is known as the {subject}?",
        ),
        ("The {subject} is {answer}.", "It is {answer} that is the {subject}."),
        """
        largest planet of the solar system|Jupiter|Saturn|Neptune|Uranus
        planet closest to the Sun|Mercury|Venus|Mars|Earth
        highest mountain above sea level|Mount Everest|Kilimanjaro|Mont Blanc|Denali
        largest ocean|the Pacific|the Atlantic|the Arctic|the Indian Ocean
        smallest ocean|the Arctic|the Pacific|the Atlantic|the Indian Ocean
        largest continent|Asia|Africa|Europe|Antarctica
        largest hot desert|the Sahara|the Gobi|the Kalahari|the Mojave
        chemical element with atomic number one|hydrogen|helium|oxygen|carbon
        largest animal alive|the blue whale|the elephant|the giraffe|the hippopotamus
        tallest animal on land|the giraffe|the elephant|the camel|the ostrich
        """,
    ),
)


def _upper_first(text: str) -> str:
    return text[0].upper() + text[1:]


def _facts(relations: tuple[Relation, ...]) -> list[Fact]:
    facts = []
    for relation in relations:
        for row in relation.rows.strip().splitlines():
            subject, answer, first, second, third = row.strip().split("|")
            # A subject such as "the Colosseum" may open a sentence.
            asked, *others = (_upper_first(q.format(subject=subject)) for q in relation.questions)
            stated = (s.format(subject=subject, answer=answer) for s in relation.statements)
            facts.append(
                Fact(
                    question=asked,
                    answer=answer,
                    wrong=(first, second, third),
                    rewordings=tuple(others),
                    statements=tuple(_upper_first(text) for text in stated),
                )
            )
    return facts


REAL_AUTHORS = _facts(AUTHOR_RELATIONS)
WORLD_FACTS = _facts(WORLD_RELATIONS)
